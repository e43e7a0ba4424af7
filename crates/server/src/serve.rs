//! The life cycle of the server: lock, open, listen, announce, work, drain, stop.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Random as _, Secret};
use landreeve_estate::random::OsRandom;
use landreeve_estate::runs::{Role, recover};
use landreeve_estate::store::Dialect;
use landreeve_estate::{events, ops, schedules};
use landreeve_http::compress::Compressed;
use landreeve_http::site::PublicUrl;
use landreeve_http::{ListenOptions, Listener, LiveLimits, Proxies, Stop, TlsFiles};
use landreeve_promotion::Promotion;
use landreeve_promotion::leases::lease_counts;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::{Place, ServeArgs};
use crate::config::{Config, Environment};
use crate::open::{self, DataLock, Opened};
use crate::watch::Watch;
use crate::{control, logs, memory, output, sample, web};

/// How long running runs get to finish once the listeners have drained.
const RUN_GRACE: Duration = Duration::from_secs(5);
/// How long everything behind the listeners gets to stop, whatever it is waiting for.
const CLOSING: Duration = Duration::from_secs(40);
/// How long after the second signal the process exits, whatever is still running.
const ABORTING: Duration = Duration::from_secs(4);
const STRANGERS: Duration = Duration::from_secs(60);
/// How often leases are counted for the metrics.
const LEASES: Duration = Duration::from_secs(15);

/// A server that has opened everything and listens; it answers requests once `run` is called.
pub struct Server {
    pub opened: Opened,
    /// The built-in sample source.
    sample: DatasourceId,
    listeners: Vec<(Listener, Compressed)>,
    limits: LiveLimits,
    level: logs::Level,
    place: Place,
    stop: Stop,
    tasks: TaskTracker,
    /// Why the server had to stop by itself.
    reason: Arc<OnceLock<String>>,
    _lock: DataLock,
}

impl Server {
    pub async fn start(args: &ServeArgs) -> anyhow::Result<Server> {
        let config = Config::load(args.place.config.as_deref())?;
        let level = logs::start(&config.log.level)?;
        open::make_data_dir(&args.place.data_dir)?;
        let lock = open::lock(&args.place.data_dir, true)?;
        open::clear_left_behind(&args.place.data_dir)?;
        let metrics = PrometheusBuilder::new().install_recorder().context("metrics")?;
        let upkeep = metrics.clone();
        let opened = open::open(&args.place, None).await?;
        let location = open::location(&args.place, &opened.config, &opened.data_dir)?;
        open::record_location(&location, &opened.data_dir)?;
        let watch = Watch::begin(&open::lock_file(&opened.data_dir), &location)?;
        open::clear_uploads(&opened).await?;
        first_user(&opened).await?;
        refuse_second_node(&opened).await?;
        let sample = sample::source(&opened.estate).await?;
        landreeve_delivery::source(&opened.delivery).await?;
        let routers = web::routers(&opened, sample, metrics)?;
        let limits = LiveLimits::new(opened.config.limits());
        // Bind before claiming runs, so that an address in use does not fail any.
        let listeners = bind(args, &opened.config, &limits, &routers).await?;
        opened.estate.start_runs(Role::Node { home: Some(opened.home()) }).await?;
        schedules::ensure(&opened.estate).await?;
        events::register(&opened.estate, &opened.estate.subscribers()).await?;
        let made = sample::ensure(&opened.estate, sample, &opened.data_dir).await?;
        let server = Server {
            opened,
            sample,
            listeners,
            limits,
            level,
            place: args.place.clone(),
            stop: Stop::default(),
            tasks: TaskTracker::new(),
            reason: Arc::clone(&watch.reason),
            _lock: lock,
        };
        server.tasks.spawn(watch.run(server.stop.drain.clone()));
        server.background(upkeep).await?;
        if let Some(run) = made {
            let (estate, data_dir) = (server.opened.estate.clone(), server.opened.data_dir.clone());
            server.tasks.spawn(sample::ensure_here(estate, data_dir, run, server.stop.drain.clone()));
        }
        Ok(server)
    }

    /// The address of the main listener.
    pub fn address(&self) -> String {
        let main = self.listeners.first().map(|(listener, _)| listener);
        main.map(|listener| format!("{}://{}", listener.scheme(), listener.local_addr())).unwrap_or_default()
    }

    /// Starts the background tasks. Each ends when the server drains.
    async fn background(&self, metrics: PrometheusHandle) -> anyhow::Result<()> {
        let (estate, stop) = (&self.opened.estate, &self.stop.drain);
        self.tasks.spawn(keep_memory_small(metrics, stop.clone()));
        self.tasks.spawn(events::dispatch(estate.clone(), estate.subscribers(), stop.clone()));
        self.tasks.spawn(schedules::run(estate.clone(), stop.clone()));
        let (store, ended) = (estate.store().clone(), stop.clone());
        self.tasks.spawn(async move { store.listen(ended).await });
        self.tasks.spawn(count_strangers(estate.clone(), stop.clone()));
        count_leases(&self.opened.promotion).await;
        self.tasks.spawn(keep_counting_leases(self.opened.promotion.clone(), stop.clone()));
        control::serve(&self.opened, &self.tasks, stop.clone()).await?;
        Ok(())
    }

    /// Answers requests until the server is stopped. Calls `ready` once requests are accepted.
    pub async fn run(self, ready: impl AsyncFnOnce(&Opened, &str, DatasourceId)) -> anyhow::Result<()> {
        let address = self.address();
        let Server { opened, sample, listeners, limits, level, place, stop, tasks, reason, _lock } = self;
        let tls: Vec<_> = listeners.iter().filter_map(|(listener, _)| listener.tls()).collect();
        // Before we print `listening on`: the reader may send a signal right after it.
        let streams = Streams::new()?;
        let serving = TaskTracker::new();
        for (listener, router) in listeners {
            output::say(&format!("listening on {}://{}", listener.scheme(), listener.local_addr()));
            serving.spawn(listener.serve(router, stop.clone()));
        }
        serving.close();
        ready(&opened, &address, sample).await;
        let reload = || reload(&place, &limits, &level, &tls);
        streams.wait(&stop, reload).await;
        serving.wait().await;
        tasks.close();
        let closing = async {
            let _ = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
            if let Err(error) = ops::audit::write_counted(&opened.estate, true).await {
                tracing::warn!(%error, "could not write refused requests to the audit trail");
            }
            let grace = if stop.abort.is_cancelled() { Duration::ZERO } else { RUN_GRACE };
            opened.close(grace).await;
        };
        tokio::select! {
            () = closing => tracing::info!("stopped"),
            () = tokio::time::sleep(CLOSING) => tracing::error!("shutdown timed out"),
            () = aborted(&stop) => tracing::warn!("shutdown aborted by a second signal"),
        }
        match reason.get() {
            Some(reason) => anyhow::bail!("{reason}"),
            None => Ok(()),
        }
    }
}

/// After a second signal, tasks still get a moment to end by themselves.
async fn aborted(stop: &Stop) {
    stop.abort.cancelled().await;
    tokio::time::sleep(ABORTING / 2).await;
}

/// The signals that the server handles.
struct Streams {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Streams {
    fn new() -> anyhow::Result<Streams> {
        Ok(Streams {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or SIGINT drains, a second one stops immediately, SIGHUP reloads.
    async fn wait(mut self, stop: &Stop, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.term.recv() => break,
                _ = self.int.recv() => break,
                _ = self.hup.recv() => reload(),
                () = stop.drain.cancelled() => break,
            }
        }
        tracing::info!("draining; send a second signal to stop immediately");
        stop.drain.cancel();
        let abort = stop.abort.clone();
        // Not awaited: it ends with the process at the latest.
        tokio::spawn(async move {
            tokio::select! {
                _ = self.term.recv() => {}
                _ = self.int.recv() => {}
            }
            abort.cancel();
            // On a thread, so that the process exits even if all workers of the runtime are blocked.
            let ending = std::thread::Builder::new().name("abort".to_owned());
            let _ = ending.spawn(|| {
                let (_held, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(ABORTING);
                std::process::exit(1);
            });
        });
    }
}

fn reload(
    place: &Place,
    limits: &LiveLimits,
    level: &logs::Level,
    tls: &[Arc<landreeve_http::listener::Tls>],
) {
    let config = match Config::load(place.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "could not reload the configuration; keeping the old one");
            return;
        }
    };
    limits.set(config.limits());
    if let Err(error) = level.set(&config.log.level) {
        tracing::error!(%error, "could not change the log level; keeping the old one");
    }
    for files in tls {
        if let Err(error) = files.reload() {
            tracing::error!(%error, "could not reload the certificate; keeping the old one");
        }
    }
    tracing::info!("reloaded the configuration");
}

/// Histograms accumulate samples until upkeep folds them, whether or not the metrics are scraped.
async fn keep_memory_small(metrics: PrometheusHandle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(5)) => {
                metrics.run_upkeep();
                memory::give_back();
            }
        }
    }
}

async fn count_strangers(estate: landreeve_estate::Estate, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STRANGERS) => {}
        }
        if let Err(error) = ops::audit::write_counted(&estate, false).await {
            tracing::warn!(%error, "could not write refused requests to the audit trail");
        }
    }
}

/// Every node shows the same numbers, which are those of the estate.
async fn keep_counting_leases(promotion: Promotion, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LEASES) => count_leases(&promotion).await,
        }
    }
}

async fn count_leases(promotion: &Promotion) {
    match lease_counts(promotion).await {
        Ok(counts) => {
            for (state, count) in counts {
                metrics::gauge!("landreeve_promotion_leases", "state" => state.as_str()).set(count as f64);
            }
        }
        Err(error) => tracing::warn!(%error, "could not count the leases of servers"),
    }
}

/// Creates the user `admin` in an empty store, with the password from the environment or a random one in a file.
async fn first_user(opened: &Opened) -> anyhow::Result<()> {
    if !ops::users::is_new(&opened.estate).await? {
        return Ok(());
    }
    let (password, file) = match Environment::read().admin_password {
        Some(password) => (password, None),
        None => {
            let mut bytes = [0_u8; 12];
            OsRandom.fill(&mut bytes);
            (Secret::new(hex::encode(bytes)), Some(initial_password_file(&opened.data_dir)))
        }
    };
    if let Some(path) = &file {
        write_private(path, password.reveal())?;
    }
    ops::users::first_user(&opened.estate, "admin", password).await?;
    if let Some(path) = file {
        output::tell(&format!("Created the user admin. Its password is in {}.", path.display()));
    }
    Ok(())
}

pub fn initial_password_file(data_dir: &Path) -> PathBuf {
    data_dir.join("initial-admin-password")
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    Ok(())
}

/// Several nodes need a shared place for blobs.
async fn refuse_second_node(opened: &Opened) -> anyhow::Result<()> {
    let estate = &opened.estate;
    let shared = opened.config.blobs.shared || !opened.config.blobs.url.is_empty();
    if estate.store().dialect() == Dialect::Sqlite || shared {
        return Ok(());
    }
    let since = landreeve_core::clock::from_micros(estate.now().as_microsecond() - 60_000_000);
    let others = recover::other_nodes(&mut estate.store().read().await?, &opened.home(), since).await?;
    anyhow::ensure!(
        others.is_empty(),
        "another node ({}) uses this database, but blobs are in a local folder. Put them at a URL ([blobs] url), or \
         set [blobs] shared = true if every node can see the folder",
        others.join(", ")
    );
    Ok(())
}

async fn bind(
    args: &ServeArgs,
    config: &Config,
    limits: &LiveLimits,
    routers: &web::Routers,
) -> anyhow::Result<Vec<(Listener, Compressed)>> {
    let plain = args.plain_http || config.server.plain_http;
    let proxies = config.proxies()?;
    let listen = args.listen.clone().unwrap_or_else(|| config.server.listen.clone());
    let tls = files(config.tls.certificate.as_ref(), config.tls.key.as_ref());
    let public = PublicUrl::parse(&config.server.public_url);
    let mut bound = vec![(
        one(&listen, tls.clone(), plain, limits, public, proxies.clone()).await?,
        routers.main.clone(),
    )];
    for (name, own) in &config.listeners {
        let router = routers.own(name).with_context(|| format!("[listeners.{name}]: unknown dialect"))?;
        let files = files(own.certificate.as_ref(), own.key.as_ref()).or_else(|| tls.clone());
        let public = PublicUrl::parse(&own.public_url);
        bound.push((one(&own.listen, files, plain, limits, public, proxies.clone()).await?, router));
    }
    Ok(bound)
}

fn files(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<TlsFiles> {
    certificate
        .zip(key)
        .map(|(certificate, key)| TlsFiles { certificate: certificate.clone(), key: key.clone() })
}

async fn one(
    listen: &str,
    tls: Option<TlsFiles>,
    plain: bool,
    limits: &LiveLimits,
    public_url: Option<PublicUrl>,
    proxies: Proxies,
) -> anyhow::Result<Listener> {
    let mut found = tokio::net::lookup_host(listen)
        .await
        .with_context(|| format!("invalid listen address {listen:?}; use HOST:PORT"))?;
    let address: SocketAddr =
        found.next().with_context(|| format!("listen address {listen:?} resolves to nothing"))?;
    anyhow::ensure!(
        address.ip().is_loopback() || tls.is_some() || plain,
        "{listen} is reachable from other machines. Configure [tls], or pass --plain-http if a proxy in front of the \
         server terminates TLS"
    );
    Ok(Listener::bind(ListenOptions { address, tls, limits: limits.clone(), public_url, proxies }).await?)
}

/// `landreeve serve`
pub async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    Server::start(&args).await?.run(async |_, _, _| {}).await
}
