//! The only place that checks addresses and paths from users: what the server may connect to, and which files it may
//! open. `http` is the server's client for outgoing HTTP. Does not belong here: connecting, reading.

pub mod http;
mod upload;
mod wire;

use std::fs::{File, Metadata};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use landreeve_core::error::codes;
use landreeve_core::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};

#[derive(Debug, Clone)]
pub struct Outbound {
    deny: Vec<Network>,
    /// Folders whose files can be opened: SQLite files, delimited text, JSON.
    file_roots: Vec<PathBuf>,
    /// Never opened for anyone, except for roots inside it.
    data_dir: PathBuf,
    /// The store and the key file, which may be elsewhere.
    own_files: Vec<PathBuf>,
}

/// The file itself, or one that SQLite stores beside it, under whatever name it was found.
fn same_file(own: &Path, found: &Metadata) -> bool {
    let Ok(own) = own.canonicalize() else { return false };
    let same = |end: &str| {
        let mut name = own.clone().into_os_string();
        name.push(end);
        let own = Path::new(&name).metadata();
        own.is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
    };
    ["", "-wal", "-shm", "-journal"].into_iter().any(same)
}

const RESOLVE: Duration = Duration::from_secs(10);

/// `169.254.0.0/16`, `fe80::/10`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    pub fn parse(text: &str) -> Result<Network> {
        let wrong =
            || Error::fault("outbound.deny", "format", format!("{text:?} is not an IP address or network"));
        let text = text.trim();
        let found =
            if text.contains('/') { text.parse().ok() } else { text.parse::<IpAddr>().ok().map(IpNet::from) };
        found.map(Network).ok_or_else(wrong)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address) || ipv4_inside(address).is_some_and(|inside| self.0.contains(&inside))
    }

    /// The same for a network that is trusted, which an address cannot enter by being translated to one in it.
    pub fn trusts(&self, address: IpAddr) -> bool {
        // A socket for both versions shows IPv4 peers as mapped addresses.
        self.0.contains(&address.to_canonical())
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, of NAT64 or of 6to4.
fn ipv4_inside(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into();
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        // Not `::` and `::1`.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

impl Outbound {
    pub fn new(
        deny: Vec<Network>,
        file_roots: Vec<PathBuf>,
        data_dir: PathBuf,
        own_files: Vec<PathBuf>,
    ) -> Outbound {
        Outbound { deny, file_roots, data_dir, own_files }
    }

    /// Resolves a host and checks every address; connect to the returned addresses, not to the name.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
        let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host, port))).await;
        let found = match found {
            Ok(Ok(found)) => found.collect::<Vec<_>>(),
            Ok(Err(_)) => {
                return Err(Error::fault(
                    "host",
                    "unresolved",
                    format!("{host:?} has no address; check the name"),
                ));
            }
            Err(_) => {
                return Err(Error::unavailable("dns", format!("{host:?} could not be resolved in time")));
            }
        };
        let allowed: Vec<SocketAddr> =
            found.iter().copied().filter(|address| self.allows(address.ip())).collect();
        if allowed.is_empty() {
            let why = format!("{host:?} is an address that [outbound] deny does not allow");
            return Err(Error::fault("host", codes::DENIED, why));
        }
        Ok(allowed)
    }

    fn allows(&self, address: IpAddr) -> bool {
        !self.deny.iter().any(|network| network.contains(address))
    }

    /// A file created by the server, by its name in the data directory.
    pub fn own_file(&self, name: &str) -> PathBuf {
        // Drivers need a resolved path, and the data directory may be reached through a link.
        self.data_dir.canonicalize().unwrap_or_else(|_| self.data_dir.clone()).join(name)
    }

    /// A SQLite file, resolved. Over HTTP it must be below a root; the operator can choose any other. The data
    /// directory's own files are always rejected.
    pub fn sqlite_file(&self, name: &str, operator: bool) -> Result<PathBuf> {
        let fault = |code, message: String| Error::fault("database", code, message);
        let given = Path::new(name);
        let mut candidates: Vec<PathBuf> = Vec::new();
        if given.is_absolute() || operator {
            candidates.push(given.to_path_buf());
        }
        if given.is_relative() {
            candidates.extend(self.file_roots.iter().map(|root| root.join(given)));
        }
        // The same error for missing and forbidden files, so as not to reveal which files a machine has.
        let refused =
            || fault("not_found", format!("{name:?} is not a file below a folder in [sources] file_roots"));
        let found = candidates.iter().find_map(|candidate| candidate.canonicalize().ok());
        let found = found.ok_or_else(refused)?;
        let metadata = found.metadata().ok().filter(Metadata::is_file).ok_or_else(refused)?;
        let data_dir = self.data_dir.canonicalize().ok();
        let roots: Vec<PathBuf> =
            self.file_roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let below = |root: &PathBuf| found.starts_with(root);
        // A root above the data directory does not open files in it; one inside it does.
        let inside =
            |root: &&PathBuf| data_dir.as_ref().is_some_and(|data| *root != data && root.starts_with(data));
        let in_data_dir = data_dir.as_ref().is_some_and(|data| found.starts_with(data));
        let own = in_data_dir && !roots.iter().filter(inside).any(below);
        if own
            || self.own_files.iter().any(|own| same_file(own, &metadata))
            || !(operator || roots.iter().any(below))
        {
            return Err(refused());
        }
        Ok(found)
    }
}

impl Outbound {
    /// Where the operator can have a new folder made: in an existing one, outside of the data directory and of what users
    /// open files in. The folder around it is resolved.
    pub fn new_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.new_sqlite_file(name, true)?;
        let roots = self.file_roots.iter().filter_map(|root| root.canonicalize().ok());
        let own = self.data_dir.canonicalize().into_iter().chain(roots);
        if own.into_iter().any(|root| path.starts_with(root)) {
            let message = "is in the data directory, or in a folder in which users may open files";
            return Err(Error::fault("database", "not_allowed", message));
        }
        Ok(path)
    }

    /// Where a new SQLite file can be made: in an existing folder below a root, or anywhere if the operator says so, but
    /// never in the data directory. The folder is resolved.
    pub fn new_sqlite_file(&self, name: &str, operator: bool) -> Result<PathBuf> {
        let fault = |code, message: String| Error::fault("database", code, message);
        let given = Path::new(name);
        let (Some(folder), Some(file)) = (given.parent(), given.file_name()) else {
            return Err(fault("format", format!("{name:?} is not the name of a file")));
        };
        if name.ends_with('/') || name.contains('\0') {
            return Err(fault("format", format!("{name:?} is not the name of a file")));
        }
        // It would become a part of another database.
        if ["-wal", "-shm", "-journal"].iter().any(|end| name.ends_with(end)) {
            return Err(fault("format", format!("{name:?} is the name of a part of a database")));
        }
        let roots: Vec<PathBuf> =
            self.file_roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let folders: Vec<PathBuf> = match given.is_absolute() {
            true => vec![folder.to_path_buf()],
            false => roots.iter().map(|root| root.join(folder)).collect(),
        };
        // The same error for missing and forbidden folders, so as not to reveal which folders a machine has.
        let refused = || {
            fault("not_found", format!("{name:?} is not in a folder below a folder in [sources] file_roots"))
        };
        let data_dir = self.data_dir.canonicalize().ok();
        let own = |folder: &Path| data_dir.as_ref().is_some_and(|data| folder.starts_with(data));
        let inside = |root: &PathBuf| data_dir.as_ref().is_some_and(|data| root != data && own(root));
        let allowed = |folder: &PathBuf| {
            let below = |root: &PathBuf| folder.starts_with(root);
            let opened = roots.iter().any(|root| below(root) && (!own(folder) || inside(root)));
            folder.is_dir() && (opened || (operator && !own(folder)))
        };
        let resolved = folders.iter().filter_map(|folder| folder.canonicalize().ok()).find(allowed);
        let path = resolved.ok_or_else(refused)?.join(file);
        // A file beside it would become a part of the new database.
        let taken = ["", "-wal", "-shm", "-journal"].into_iter().find(|end| {
            let mut name = path.clone().into_os_string();
            name.push(end);
            Path::new(&name).symlink_metadata().is_ok()
        });
        match taken {
            Some(end) => Err(Error::conflict("exists", format!("the file {}{end} exists", path.display()))),
            None => Ok(path),
        }
    }

    /// A file of text below a root, open for reading. The system resolves the path so that no link and no `..` leads out of
    /// the root. The same error for missing and forbidden files.
    pub fn text_file(&self, name: &str) -> Result<File> {
        let refused = || {
            let message = format!("{name:?} is not a file below a folder in [sources] file_roots");
            Error::fault("ROUTE", "not_found", message)
        };
        let opened = self.file_roots.iter().find_map(|root| open_below(root, Path::new(name)));
        let (file, root) = opened.ok_or_else(refused)?;
        let found =
            std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| refused())?;
        let data_dir = self.data_dir.canonicalize().ok();
        let own = data_dir
            .as_ref()
            .is_some_and(|data| found.starts_with(data) && (root == *data || !root.starts_with(data)));
        let metadata = file.metadata().map_err(|_| refused())?;
        if own || self.own_files.iter().any(|own| same_file(own, &metadata)) {
            return Err(refused());
        }
        Ok(file)
    }
}

/// A regular file below a root, and the resolved root.
fn open_below(root: &Path, name: &Path) -> Option<(File, PathBuf)> {
    let resolved = root.canonicalize().ok()?;
    let inside = if name.is_absolute() {
        name.strip_prefix(root).or_else(|_| name.strip_prefix(&resolved)).ok()?
    } else {
        name
    };
    let folder = File::open(&resolved).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(&folder, inside, flags, Mode::empty(), resolve).ok()?);
    file.metadata().ok()?.is_file().then_some((file, resolved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let link_local = Network::parse("169.254.0.0/16").unwrap();
        assert!(link_local.contains("169.254.169.254".parse().unwrap()));
        for other_form in
            ["::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1"]
        {
            assert!(link_local.contains(other_form.parse().unwrap()), "{other_form}");
        }
        for other in ["::1", "::", "64:ff9b::8.8.8.8", "2003:a9fe:a9fe::1", "fe80::a9fe:a9fe"] {
            assert!(!link_local.contains(other.parse().unwrap()), "{other}");
        }
        assert!(!link_local.contains("169.253.0.1".parse().unwrap()));
        assert!(Network::parse("fe80::/10").unwrap().contains("fe80::1".parse().unwrap()));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
        for wrong in ["", "1.2.3", "1.2.3.4/33", "::/129", "host/8"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trusted_network_has_only_its_own_addresses() {
        let loopback = Network::parse("127.0.0.0/8").unwrap();
        for (address, trusted) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("64:ff9b::127.0.0.1", false),
            ("2002:7f00:1::1", false),
        ] {
            assert_eq!(loopback.trusts(address.parse().unwrap()), trusted, "{address}");
        }
        assert!(Network::parse("::1/128").unwrap().trusts("::1".parse().unwrap()));
    }

    #[test]
    fn the_servers_files_have_a_resolved_path() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = folder.path().join("data");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let outbound = Outbound::new(Vec::new(), Vec::new(), link, Vec::new());
        assert_eq!(outbound.own_file("sample.db"), real.join("sample.db"));
    }

    #[test]
    fn rejects_files_outside_the_roots() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let root = data.join("files");
        std::fs::create_dir_all(&root).unwrap();
        for file in ["data/estate.db", "data/files/mine.db", "other.db"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(data.join("estate.db"), root.join("sly.db")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("other.db"), root.join("out.db")).unwrap();
        let outbound = Outbound::new(Vec::new(), vec![root.clone()], data.clone(), Vec::new());
        assert!(outbound.sqlite_file("mine.db", false).is_ok());
        for refused in ["../estate.db", "sly.db", "out.db", "missing.db", "."] {
            assert!(outbound.sqlite_file(refused, false).is_err(), "{refused}");
        }
        let other = folder.path().join("other.db");
        assert!(outbound.sqlite_file(other.to_str().unwrap(), true).is_ok(), "the operator may");
        assert!(outbound.sqlite_file(other.to_str().unwrap(), false).is_err());
        let above = vec![folder.path().to_path_buf()];
        let wide = Outbound::new(Vec::new(), above, data.clone(), vec![folder.path().join("other.db")]);
        assert!(
            wide.sqlite_file("data/estate.db", false).is_err(),
            "a root above does not open the server's files"
        );
        assert!(wide.sqlite_file("other.db", true).is_err(), "nor a store that is elsewhere");
        std::fs::hard_link(folder.path().join("other.db"), root.join("hard.db")).unwrap();
        assert!(wide.sqlite_file("data/files/hard.db", true).is_err(), "nor under another name");
        assert!(
            outbound.sqlite_file(data.join("estate.db").to_str().unwrap(), true).is_err(),
            "never the server's own"
        );
    }

    #[test]
    fn a_new_file_is_below_a_root_or_the_operators() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        for name in ["root/deep", "data/files", "data/blobs", "else"] {
            std::fs::create_dir_all(base.join(name)).unwrap();
        }
        for name in ["root/taken.db", "root/beside.db-wal", "root/old.db-journal"] {
            std::fs::write(base.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(base.join("else"), base.join("root/out")).unwrap();
        std::os::unix::fs::symlink("nowhere", base.join("root/dangling.db")).unwrap();
        let roots = vec![base.join("root"), base.join("data/files")];
        let outbound = Outbound::new(Vec::new(), roots, base.join("data"), Vec::new());
        let at = |name: &str| base.join(name).to_str().unwrap().to_owned();
        // The name, and whether a user and the operator may make it: `None` if it is in the way of another file.
        for (name, user, operator) in [
            (at("root/new.db"), Some(true), Some(true)),
            ("new.db".to_owned(), Some(true), Some(true)),
            ("deep/new.db".to_owned(), Some(true), Some(true)),
            ("deep/../new.db".to_owned(), Some(true), Some(true)),
            (at("data/files/new.db"), Some(true), Some(true)),
            (at("root/../else/new.db"), Some(false), Some(true)),
            (at("else/new.db"), Some(false), Some(true)),
            (at("root/out/new.db"), Some(false), Some(true)),
            ("../else/new.db".to_owned(), Some(false), Some(true)),
            ("no/such/new.db".to_owned(), Some(false), Some(false)),
            (at("data/new.db"), Some(false), Some(false)),
            (at("data/blobs/new.db"), Some(false), Some(false)),
            (at("root/taken.db"), None, None),
            (at("root/beside.db"), None, None),
            (at("root/old.db"), None, None),
            (at("root/dangling.db"), None, None),
            (at("root/"), Some(false), Some(false)),
            ("/".to_owned(), Some(false), Some(false)),
            ("..".to_owned(), Some(false), Some(false)),
            (String::new(), Some(false), Some(false)),
            ("a\0b".to_owned(), Some(false), Some(false)),
        ] {
            for (who, wanted) in [(false, user), (true, operator)] {
                let made = outbound.new_sqlite_file(&name, who);
                let seen = match &made {
                    Ok(path) => path.is_absolute().then_some(true),
                    Err(error) if error.kind == landreeve_core::ErrorKind::Conflict => None,
                    Err(_) => Some(false),
                };
                assert_eq!(seen, wanted, "{name:?}, operator: {who}: {made:?}");
            }
        }
    }

    #[test]
    fn text_is_opened_below_a_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let root = folder.path().join("files");
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::create_dir_all(&data).unwrap();
        for file in ["data/estate.db", "files/a.csv", "files/in/b.csv", "out.csv"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        for (link, target) in
            [("sly.csv", "../out.csv"), ("abs.csv", "/etc/passwd"), ("fine.csv", "in/b.csv"), ("up", "..")]
        {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let outbound = Outbound::new(Vec::new(), vec![root.clone()], data.clone(), Vec::new());
        let absolute = root.join("a.csv");
        for allowed in ["a.csv", "in/b.csv", "in/../a.csv", "fine.csv", absolute.to_str().unwrap()] {
            assert!(outbound.text_file(allowed).is_ok(), "{allowed}");
        }
        for refused in [
            "../out.csv",
            "sly.csv",
            "abs.csv",
            "up/out.csv",
            "/etc/passwd",
            "in",
            "none.csv",
            "",
            "in/../../out.csv",
        ] {
            assert!(outbound.text_file(refused).is_err(), "{refused}");
        }
        let wide = Outbound::new(
            Vec::new(),
            vec![folder.path().to_path_buf()],
            data.clone(),
            vec![folder.path().join("out.csv")],
        );
        assert!(wide.text_file("files/a.csv").is_ok());
        assert!(wide.text_file("data/estate.db").is_err(), "a root above does not open the server's files");
        assert!(wide.text_file("out.csv").is_err(), "nor a store that is elsewhere");
        std::fs::hard_link(folder.path().join("out.csv"), root.join("hard.csv")).unwrap();
        assert!(wide.text_file("files/hard.csv").is_err(), "nor under another name");
        let own = Outbound::new(Vec::new(), vec![data.clone()], data, Vec::new());
        assert!(own.text_file("estate.db").is_err(), "the data directory is no root");
    }
}
