//! Where an engine listens: its doors, and the socket of its owner.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar_core::config::EngineConfig;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::connection::{self, Address, Listener, StopSignal};
use crate::data_plane::DataPlane;
use crate::doors;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// Every door is behind every listener; this is the first one's.
    pub http: Address,
    /// The second listener, under the port that clients of gRPC expect; none beside a Unix socket.
    pub grpc: Option<Address>,
    /// The admin socket.
    pub admin: Option<PathBuf>,
}

/// Why an engine did not start.
#[derive(Debug)]
pub struct StartError {
    /// What could not be bound, `http`, `grpc` or `admin`, if it was that.
    pub listener: Option<&'static str>,
    /// What the system says.
    pub cause: io::Error,
}

impl From<io::Error> for StartError {
    fn from(cause: io::Error) -> Self {
        Self { listener: None, cause }
    }
}

/// Bound, and accepting nothing yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) doors: Vec<Listener>,
    pub(crate) admin: Option<Listener>,
}

impl Listeners {
    /// One socket speaks both protocols; TCP has a second port, where clients of gRPC look for it. `inherited` are the
    /// doors, `http` or `grpc`, of the sockets that the process was started with, in their order: where there are any,
    /// nothing is bound beside the admin socket.
    pub(crate) fn open(config: &EngineConfig, inherited: &[String]) -> Result<Self, StartError> {
        if inherited.is_empty() {
            return Self::bind(config);
        }
        let mut doors: Vec<_> = inherited.iter().zip(connection::inherit()?).collect();
        doors.sort_by_key(|(name, _)| *name != "http");
        if doors.len() < inherited.len() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "fewer sockets are there than were named").into());
        }
        let doors = doors.into_iter().map(|(_, listener)| listener).collect();
        Ok(Self { doors, admin: bind_admin(config)? })
    }

    fn bind(config: &EngineConfig) -> Result<Self, StartError> {
        let listen = |name, port| {
            connection::bind(&config.host, port).map_err(|cause| StartError { listener: Some(name), cause })
        };
        let http = listen("http", config.http_port)?;
        let has_ports = http.address().port.is_some();
        let grpc = has_ports.then(|| listen("grpc", config.grpc_port)).transpose()?;
        let admin = bind_admin(config)?;
        Ok(Self { doors: [http].into_iter().chain(grpc).collect(), admin })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            http: self.doors[0].address().clone(),
            grpc: self.doors.get(1).map(|listener| listener.address().clone()),
            admin: self.admin.as_ref().and_then(|listener| listener.address().path.clone()),
        }
    }
}

/// Where nobody asked for the socket by its path, the engine starts without it.
fn bind_admin(config: &EngineConfig) -> Result<Option<Listener>, StartError> {
    let Some(path) = &config.admin_socket else { return Ok(None) };
    let bound = prepare_folder(Path::new(path)).and_then(|()| connection::bind(&format!("unix:{path}"), 0));
    match bound {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if config.admin_optional => {
            tracing::warn!(path, %error, "there is no admin socket, so `samovar models` cannot reach this engine");
            Ok(None)
        }
        Err(cause) => Err(StartError { listener: Some("admin"), cause }),
    }
}

/// Make the socket's folder if it is missing, for its owner alone. Nobody else can open the socket; but whoever may
/// write the folder could put another one in its place, so one of somebody else, or open to others, is refused.
fn prepare_folder(socket: &Path) -> io::Result<()> {
    let Some(folder) = socket.parent() else { return Ok(()) };
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::metadata(folder)?;
    let (owner, mode) = (metadata.uid(), metadata.mode());
    let is_sticky = mode & 0o1000 != 0;
    if (owner == rustix::process::geteuid().as_raw() || owner == 0) && (mode & 0o022 == 0 || is_sticky) {
        return Ok(());
    }
    let text = format!("others may write its folder {} (mode {:o}, user {owner})", folder.display(), mode & 0o7777);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Serve every door; returns when the last one has ended.
pub(crate) async fn serve(listeners: Vec<Listener>, plane: Arc<DataPlane>, stop: StopSignal) {
    let connections = Arc::new(Semaphore::new(plane.config().max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let mut served = JoinSet::new();
    for listener in listeners {
        served.spawn(doors::serve(listener, Arc::clone(&plane), Arc::clone(&connections), stop.clone()));
    }
    while let Some(ended) = served.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("a listener ended: {error}"),
            Err(error) => {
                plane.panicked();
                tracing::error!("a listener ended: {error}");
            }
        }
    }
}

/// Serve the owner.
pub(crate) async fn serve_owner(listener: Option<Listener>, plane: Arc<DataPlane>, stop: StopSignal) {
    if let Some(listener) = listener
        && let Err(error) = doors::serve_owner(listener, plane, stop).await
    {
        tracing::error!("the admin socket ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("samovar-admin-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_missing_folder_is_made_for_its_owner_alone() {
        let parent = folder("made");
        prepare_folder(&parent.join("inner/engine.sock")).unwrap();
        assert_eq!(mode(&parent.join("inner")), 0o700);
        prepare_folder(&parent.join("inner/engine.sock")).unwrap();
        let error = prepare_folder(&parent.join("a/b/engine.sock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn folders_that_others_may_write_are_refused() {
        let open = folder("open");
        for (mode, is_taken) in [(0o755, true), (0o770, false), (0o707, false), (0o1777, true), (0o700, true)] {
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            let result = prepare_folder(&open.join("engine.sock"));
            assert_eq!(result.is_ok(), is_taken, "{mode:o}: {result:?}");
        }
        fs::remove_dir_all(open).unwrap();
    }
}
