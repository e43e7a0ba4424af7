//! The few functions of GSSAPI that checking a ticket needs, from `libgssapi_krb5.so.2`, which is opened at run time.
//!
//! All unsafe code of the workspace is in this file. What it offers to the rest of the crate is safe: everything that the
//! library returns is copied into Rust values and released before a function returns, and no pointer leaves this file. The
//! types are those of RFC 2744 as MIT Kerberos lays them out on Linux.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

const LIBRARY: &CStr = c"libgssapi_krb5.so.2";

/// `GSS_S_COMPLETE`.
const COMPLETE: u32 = 0;
/// `GSS_S_CONTINUE_NEEDED`.
const CONTINUE_NEEDED: u32 = 1;
/// `GSS_S_FAILURE`, which says nothing itself: the minor code does.
const FAILURE: u32 = 13 << 16;
/// `GSS_C_ACCEPT`.
const ACCEPT: c_int = 2;
/// `GSS_C_GSS_CODE` and `GSS_C_MECH_CODE`: which of its two codes a function's status is.
const MAJOR: c_int = 1;
const MINOR: c_int = 2;

/// 1.2.840.113554.1.2.2, Kerberos 5.
static KERBEROS: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
/// 1.3.6.1.5.5.2, SPNEGO.
static NEGOTIATION: [u8; 6] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];

/// `gss_buffer_desc`.
#[repr(C)]
struct Buffer {
    length: usize,
    value: *mut c_void,
}

/// `gss_OID_desc`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Oid {
    length: u32,
    elements: *const c_void,
}

/// `gss_OID_set_desc`.
#[repr(C)]
struct OidSet {
    count: usize,
    elements: *const Oid,
}

/// `gss_key_value_element_desc`.
#[repr(C)]
struct KeyValue {
    key: *const c_char,
    value: *const c_char,
}

/// `gss_key_value_set_desc`.
#[repr(C)]
struct KeyValues {
    count: u32,
    elements: *const KeyValue,
}

/// A context, a credential or a name, of which only the library knows more.
type Handle = *mut c_void;

type AcquireCredFrom = unsafe extern "C" fn(
    minor: *mut u32,
    desired_name: Handle,
    time_req: u32,
    desired_mechs: *const OidSet,
    usage: c_int,
    store: *const KeyValues,
    credential: *mut Handle,
    actual_mechs: *mut *mut OidSet,
    time: *mut u32,
) -> u32;
type SetNegMechs = unsafe extern "C" fn(minor: *mut u32, credential: Handle, mechs: *const OidSet) -> u32;
type AcceptSecContext = unsafe extern "C" fn(
    minor: *mut u32,
    context: *mut Handle,
    credential: Handle,
    token: *const Buffer,
    bindings: *const c_void,
    source: *mut Handle,
    mech: *mut *mut Oid,
    reply: *mut Buffer,
    flags: *mut u32,
    time: *mut u32,
    delegated: *mut Handle,
) -> u32;
type DisplayName =
    unsafe extern "C" fn(minor: *mut u32, name: Handle, text: *mut Buffer, kind: *mut *mut Oid) -> u32;
type DisplayStatus = unsafe extern "C" fn(
    minor: *mut u32,
    status: u32,
    kind: c_int,
    mech: *const Oid,
    more: *mut u32,
    text: *mut Buffer,
) -> u32;
/// `gss_release_cred` and `gss_release_name`.
type ReleaseHandle = unsafe extern "C" fn(minor: *mut u32, handle: *mut Handle) -> u32;
type ReleaseBuffer = unsafe extern "C" fn(minor: *mut u32, buffer: *mut Buffer) -> u32;
type DeleteSecContext =
    unsafe extern "C" fn(minor: *mut u32, context: *mut Handle, reply: *mut Buffer) -> u32;

/// The opened library. It is never closed, so its functions can be called as long as the process lives.
pub struct Library {
    acquire_cred_from: AcquireCredFrom,
    set_neg_mechs: SetNegMechs,
    accept_sec_context: AcceptSecContext,
    display_name: DisplayName,
    display_status: DisplayStatus,
    release_cred: ReleaseHandle,
    release_name: ReleaseHandle,
    release_buffer: ReleaseBuffer,
    delete_sec_context: DeleteSecContext,
}

impl Library {
    /// An error is the dynamic linker's message.
    pub fn open() -> Result<Library, String> {
        // SAFETY: the name is a valid C string. Opening a library runs its initializers; those of MIT Kerberos set up
        // locks and thread-local storage and need nothing from us.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(linker_error());
        }
        // SAFETY: the library is open and stays open, and each type above is that of the C function with this name in
        // RFC 2744 or, for the first two, in MIT's gssapi_ext.h.
        unsafe {
            Ok(Library {
                acquire_cred_from: function(library, c"gss_acquire_cred_from")?,
                set_neg_mechs: function(library, c"gss_set_neg_mechs")?,
                accept_sec_context: function(library, c"gss_accept_sec_context")?,
                display_name: function(library, c"gss_display_name")?,
                display_status: function(library, c"gss_display_status")?,
                release_cred: function(library, c"gss_release_cred")?,
                release_name: function(library, c"gss_release_name")?,
                release_buffer: function(library, c"gss_release_buffer")?,
                delete_sec_context: function(library, c"gss_delete_sec_context")?,
            })
        }
    }

    /// The keys with which tickets are checked: `keytab` is a file, `replays` a cache such as `file2:PATH`. Only Kerberos
    /// is accepted, by itself or negotiated by SPNEGO. An error is the library's message.
    pub fn credential(&self, keytab: &CStr, replays: &CStr) -> Result<Credential<'_>, String> {
        let kerberos = Oid { length: 9, elements: KERBEROS.as_ptr().cast() };
        let negotiation = Oid { length: 6, elements: NEGOTIATION.as_ptr().cast() };
        let both = [kerberos, negotiation];
        let accepted = OidSet { count: both.len(), elements: both.as_ptr() };
        let negotiated = OidSet { count: 1, elements: &raw const kerberos };
        let store = [
            KeyValue { key: c"keytab".as_ptr(), value: keytab.as_ptr() },
            KeyValue { key: c"rcache".as_ptr(), value: replays.as_ptr() },
        ];
        let store = KeyValues { count: 2, elements: store.as_ptr() };
        let mut credential = Credential { library: self, handle: ptr::null_mut() };
        let mut minor = 0;
        // SAFETY: every input points to a local of the type that the function reads, and the function keeps none of
        // them: it copies OIDs and texts. Null is allowed for the name (any in the keytab) and for both outputs that are
        // not wanted.
        let major = unsafe {
            (self.acquire_cred_from)(
                &raw mut minor,
                ptr::null_mut(),
                0,
                &raw const accepted,
                ACCEPT,
                &raw const store,
                &raw mut credential.handle,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if major != COMPLETE {
            return Err(self.message(major, minor));
        }
        // SAFETY: the credential was just acquired, and the set is only read during the call.
        let major = unsafe { (self.set_neg_mechs)(&raw mut minor, credential.handle, &raw const negotiated) };
        if major != COMPLETE {
            return Err(self.message(major, minor));
        }
        Ok(credential)
    }

    /// The codes of a status in words, such as `Request is a replay`.
    fn message(&self, major: u32, minor: u32) -> String {
        let major = if major == FAILURE && minor != 0 { String::new() } else { self.text(major, MAJOR) };
        let minor = if minor == 0 { String::new() } else { self.text(minor, MINOR) };
        let texts = [major, minor].into_iter().filter(|text| !text.is_empty());
        texts.collect::<Vec<_>>().join(": ")
    }

    fn text(&self, status: u32, kind: c_int) -> String {
        let mut text = Returned::nothing(self);
        let (mut minor, mut more) = (0, 0);
        // SAFETY: all pointers are to locals; null as the mechanism means that of the status, and the buffer is released
        // by `Returned`.
        let major = unsafe {
            (self.display_status)(
                &raw mut minor,
                status,
                kind,
                ptr::null(),
                &raw mut more,
                &raw mut text.buffer,
            )
        };
        if major == COMPLETE { text.to_text() } else { String::new() }
    }
}

/// The function `name` of an open library.
///
/// # Safety
///
/// The library must be open and stay open, and `F` must be a function pointer of the type that `name` has in it.
unsafe fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is open, and the name is a valid C string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    if address.is_null() {
        return Err(linker_error());
    }
    // SAFETY: the address is that of a function, whose type is `F` as the caller promises; the sizes are equal.
    Ok(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&address) })
}

/// What the dynamic linker says about the last failure in this thread.
fn linker_error() -> String {
    // SAFETY: no arguments; the result is null or a C string that is valid until the next call in this thread.
    let message = unsafe { libc::dlerror() };
    if message.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: it is not null, and it is copied here, before any other call.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}

/// Keys that tickets are checked with.
pub struct Credential<'a> {
    library: &'a Library,
    handle: Handle,
}

/// What a valid ticket says.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `alice@EXAMPLE.COM`.
    pub principal: String,
    /// The token that proves to the client who this server is, if the client asked for it.
    pub reply: Option<Vec<u8>>,
}

impl Credential<'_> {
    /// Checks a token. An error says why it is refused, for the log.
    pub fn accept(&self, token: &[u8]) -> Result<Accepted, String> {
        let library = self.library;
        let mut context = Context { library, handle: ptr::null_mut() };
        let mut name = Name { library, handle: ptr::null_mut() };
        let mut reply = Returned::nothing(library);
        let input = Buffer { length: token.len(), value: token.as_ptr().cast_mut().cast() };
        let mut minor = 0;
        // SAFETY: all pointers are to locals that live until the end of this function; the library only reads the input.
        // Null means: no channel bindings, and outputs that are not wanted (among them delegated credentials). What is
        // written to the context, the name and the reply is released by their `drop`.
        let major = unsafe {
            (library.accept_sec_context)(
                &raw mut minor,
                &raw mut context.handle,
                self.handle,
                &raw const input,
                ptr::null(),
                &raw mut name.handle,
                ptr::null_mut(),
                &raw mut reply.buffer,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        match major {
            COMPLETE => Ok(Accepted { principal: name.to_text()?, reply: reply.to_bytes() }),
            CONTINUE_NEEDED => Err("the client wants to exchange more than one token".to_owned()),
            _ => Err(library.message(major, minor)),
        }
    }
}

impl Drop for Credential<'_> {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is null, which is allowed, or one that the library returned and that is released only here.
        unsafe { (self.library.release_cred)(&raw mut minor, &raw mut self.handle) };
    }
}

/// A security context: made and dropped with one token, because nothing is encrypted or signed with it.
struct Context<'a> {
    library: &'a Library,
    handle: Handle,
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if self.handle.is_null() {
            return;
        }
        let mut minor = 0;
        // SAFETY: the library returned the handle, and it is released only here. Null: no token for the other side.
        unsafe {
            (self.library.delete_sec_context)(&raw mut minor, &raw mut self.handle, ptr::null_mut());
        }
    }
}

/// The name of a client.
struct Name<'a> {
    library: &'a Library,
    handle: Handle,
}

impl Name<'_> {
    fn to_text(&self) -> Result<String, String> {
        if self.handle.is_null() {
            return Err("the ticket has no name".to_owned());
        }
        let mut text = Returned::nothing(self.library);
        let mut minor = 0;
        // SAFETY: the library returned the handle, and it is not released yet. Null: the kind of name is not wanted.
        let major = unsafe {
            (self.library.display_name)(&raw mut minor, self.handle, &raw mut text.buffer, ptr::null_mut())
        };
        if major != COMPLETE {
            return Err(self.library.message(major, minor));
        }
        let bytes = text.to_bytes().unwrap_or_default();
        String::from_utf8(bytes).map_err(|_| "the name in the ticket is not UTF-8".to_owned())
    }
}

impl Drop for Name<'_> {
    fn drop(&mut self) {
        if self.handle.is_null() {
            return;
        }
        let mut minor = 0;
        // SAFETY: the library returned the handle, and it is released only here.
        unsafe { (self.library.release_name)(&raw mut minor, &raw mut self.handle) };
    }
}

/// A buffer that the library fills and releases.
struct Returned<'a> {
    library: &'a Library,
    buffer: Buffer,
}

impl Returned<'_> {
    fn nothing(library: &Library) -> Returned<'_> {
        Returned { library, buffer: Buffer { length: 0, value: ptr::null_mut() } }
    }

    /// `None` if it is empty.
    fn to_bytes(&self) -> Option<Vec<u8>> {
        let Buffer { length, value } = self.buffer;
        if value.is_null() || length == 0 {
            return None;
        }
        // SAFETY: the library filled the buffer, so that `value` points to `length` bytes until it is released by `drop`.
        Some(unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) }.to_vec())
    }

    fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.to_bytes().unwrap_or_default()).into_owned()
    }
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the buffer is empty, which is allowed, or one that the library filled and that is released only here.
        unsafe { (self.library.release_buffer)(&raw mut minor, &raw mut self.buffer) };
    }
}
