//! Where the door listens: a TCP port or a Unix socket.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;

/// Connections that the kernel keeps for us until they are accepted; the standard library's 128 are a burst too few.
pub(super) const BACKLOG: i32 = 1_024;
/// The prefix of a host that names a Unix socket.
const UNIX_PREFIX: &str = "unix:";

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The address as it was resolved (`127.0.0.1`, `::1`), or `unix:/path`.
    pub host: String,
    /// TCP port.
    pub port: Option<u16>,
    /// Path of the Unix socket.
    pub path: Option<PathBuf>,
}

/// A bound, listening socket that accepts nothing before `serve` has it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: Socket,
    address: Address,
    loopback: bool,
    inherited: bool,
}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    /// The path of one that was inherited is not ours to remove.
    Unix(UnixListener, Option<SocketFile>),
}

impl Listener {
    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Is this a TCP port that only this machine reaches, so that Host must name this machine?
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Behave like one that was inherited, or not.
    #[cfg(test)]
    pub(super) fn share(&mut self, inherited: bool) {
        self.inherited = inherited;
    }

    /// May other processes accept its connections too?
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }
}

/// Listen on `host`: an IPv4 or IPv6 address (`::1`, `[::1]`), a host name, or `unix:/path`; port 0 picks a free one.
///
/// A Unix socket has mode 0600. One that nobody listens on any more is replaced; `AddrInUse` if somebody does,
/// `AlreadyExists` if the path is no socket.
pub fn bind(host: &str, port: u16) -> io::Result<Listener> {
    match host.strip_prefix(UNIX_PREFIX) {
        Some(path) => bind_unix(Path::new(path)),
        None => bind_tcp(host, port),
    }
}

fn bind_tcp(host: &str, port: u16) -> io::Result<Listener> {
    let name = host.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(host);
    let mut addresses: Vec<SocketAddr> = (name, port).to_socket_addrs()?.collect();
    addresses.sort_by_key(|address| !address.is_ipv4()); // `localhost` is 127.0.0.1 first
    let listener = TcpListener::bind(&addresses[..])?;
    rustix::net::listen(&listener, BACKLOG)?;
    over_tcp(listener, false)
}

fn over_tcp(listener: TcpListener, inherited: bool) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok(Listener {
        socket: Socket::Tcp(listener),
        loopback: bound.ip().to_canonical().is_loopback(),
        address: Address { host: bound.ip().to_string(), port: Some(bound.port()), path: None },
        inherited,
    })
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before bind the mode is the one that the file is born with: no moment in which others may connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
    Ok(over_unix(UnixListener::from(socket), path, Some(file)))
}

fn over_unix(listener: UnixListener, path: &Path, file: Option<SocketFile>) -> Listener {
    Listener {
        inherited: file.is_none(),
        socket: Socket::Unix(listener, file),
        loopback: false,
        address: Address { host: format!("{UNIX_PREFIX}{}", path.display()), port: None, path: Some(path.to_owned()) },
    }
}

/// The listening sockets that the process was started with (`LISTEN_FDS`, `LISTEN_PID`), in their order; TCP or Unix
/// sockets with a path.
///
/// They become non-blocking, for whoever shares them too, and are no longer passed on to what this process starts. The
/// variables are removed, so the second call finds none.
pub fn inherit() -> io::Result<Vec<Listener>> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).map(|index| take(&mut passed, index)).collect()
}

fn take(passed: &mut ListenFd, index: usize) -> io::Result<Listener> {
    if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
        return over_tcp(listener, true);
    }
    let listener = passed.take_unix_listener(index)?.ok_or(io::ErrorKind::InvalidInput)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let path = address.as_pathname().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    Ok(over_unix(listener, &path, None))
}

/// Remove a socket that outlived its process (its path survives a SIGKILL).
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is no socket", path.display())));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} is in use", path.display()))),
    }
}

/// The path of our socket, removed with it unless another process has put its own there.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("samovar-listener-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn addresses_and_names_are_bound() {
        for (host, wanted) in [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")] {
            let listener = bind(host, 0).unwrap();
            assert_eq!(listener.address().host, wanted);
            assert!(listener.address().port.unwrap() > 0);
            assert!(listener.is_loopback());
        }
        assert!(!bind("0.0.0.0", 0).unwrap().is_loopback());
        assert!(bind("", 0).is_err());
        let taken = bind("127.0.0.1", 0).unwrap();
        let error = bind("127.0.0.1", taken.address().port.unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn ipv6_is_bound_where_the_machine_has_it() {
        if TcpListener::bind("[::1]:0").is_ok() {
            for host in ["::1", "[::1]"] {
                assert_eq!(bind(host, 0).unwrap().address().host, "::1");
            }
        }
    }

    #[test]
    fn unix_sockets_are_private_and_removed() {
        let path = folder("private").join("http.sock");
        let host = format!("unix:{}", path.display());
        let listener = bind(&host, 0).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listener.address(), &Address { host: host.clone(), port: None, path: Some(path.clone()) });
        assert_eq!(bind(&host, 0).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        fs::remove_dir(path.parent().unwrap()).unwrap(); // the socket is gone
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let folder = folder("stale");
        let path = folder.join("http.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert!(bind(&format!("unix:{}", path.display()), 0).is_ok());
        let file = folder.join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(bind(&format!("unix:{}", file.display()), 0).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"x");
        fs::remove_dir_all(folder).unwrap();
    }
}
