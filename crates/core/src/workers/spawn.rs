//! Starting worker processes and seeing them end.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};

use rustix::process::{Pid, PidfdFlags, Signal, getpriority_process, pidfd_open, setpriority_process};
use tokio::sync::{oneshot, watch};

use super::output::{Output, Stream};
use crate::channel::engine::Link;
use crate::channel::segments::watch as watch_descriptor;
use crate::config::TransportKind;
use crate::metrics::Metrics;
use crate::panics::{catch, contain};

/// The cause of an end that `hard_kill_after_s` asked for.
pub const HARD_KILL: &str = "hard_kill";
/// The cause of the end of a worker that gave no sign of life.
pub const HANG: &str = "hang";
/// The cause of the end of a worker on which the engine itself failed.
pub const PANIC: &str = "panic";

/// How a worker ended.
#[derive(Clone, Debug)]
pub struct Exit {
    /// "signal 9 (SIGKILL)" or "exit status 3".
    pub status: String,
    /// Short name for metrics: signal, exit, bad_frame, hard_kill, hang, panic.
    pub cause: &'static str,
    /// The frame that ended it, if one did.
    pub bad_frame: Option<String>,
}

/// A running worker.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its process, which leads a group of the same number.
    pub pid: u32,
    /// Its channel.
    pub link: Arc<Link>,
    /// What it prints.
    pub output: Arc<Output>,
    /// Where panics of what looks after it are counted.
    pub metrics: Arc<Metrics>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Worker {
    /// Wait for its end. Everything it had sent has been handled then.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let unknown = Exit { status: "an unknown end".into(), cause: "exit", bad_frame: None };
        let seen = exit.wait_for(Option::is_some).await.map(|exit| exit.clone());
        seen.ok().flatten().unwrap_or(unknown)
    }

    /// True if it has ended.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// End it and its children.
    pub fn kill(&self) {
        if !self.has_exited() {
            kill_group(self.pid);
        }
    }
}

fn kill_group(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// How much greater the nice value of a worker is that nobody waits for, as of one that loads beside others.
const LOWER_BY: i32 = 10;
const LOWEST: i32 = 19;

#[derive(Debug)]
struct Order {
    is_urgent: bool,
    reply: oneshot::Sender<io::Result<Started>>,
}

/// A child process with its end of the socket.
#[derive(Debug)]
struct Started {
    child: Child,
    socket: UnixStream,
}

/// Starts workers from one thread that lives as long as the engine: a worker takes the end of the thread that started
/// it for the end of the engine (`PR_SET_PDEATHSIG`).
#[derive(Debug, Clone)]
pub struct Spawner {
    orders: mpsc::Sender<Order>,
    transport: TransportKind,
    pub(super) metrics: Arc<Metrics>,
}

impl Spawner {
    /// Start the thread.
    pub fn new(command: Vec<String>, transport: TransportKind, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let counted = Arc::clone(&metrics);
        std::thread::Builder::new().name("samovar-spawn".into()).spawn(move || {
            let low = low_priority();
            for Order { is_urgent, reply } in inbox {
                let low = low.filter(|_| !is_urgent);
                let started = contain(|| start(&command, low)).unwrap_or_else(|panic| {
                    counted.panicked(&panic, "a worker was not started");
                    Err(io::Error::other("the engine failed; its log tells why"))
                });
                // A receiver that is gone leaves a child without a socket, which ends by itself.
                let _ = reply.send(started);
            }
        })?;
        Ok(Self { orders, transport, metrics })
    }

    /// Start a worker, with a low priority unless somebody waits for it. It has not said anything yet.
    pub async fn spawn(&self, is_urgent: bool) -> io::Result<Worker> {
        let (reply, started) = oneshot::channel();
        self.orders
            .send(Order { is_urgent, reply })
            .map_err(|_| io::Error::other("the thread that starts workers is gone"))?;
        let mut started = started.await.map_err(io::Error::other)??;
        let pid = started.child.id();
        let output = Arc::new(Output::default());
        let read = |pipe: OwnedFd, stream| {
            let reading = Arc::clone(&output).read(pipe, stream);
            tokio::spawn(Arc::clone(&self.metrics).watch("what a worker prints is not read any more", reading))
        };
        if let Some(stdout) = started.child.stdout.take() {
            drop(read(OwnedFd::from(stdout), Stream::Stdout));
        }
        let reading = started.child.stderr.take().map(|stderr| read(OwnedFd::from(stderr), Stream::Stderr));
        let (link, inbound) = Link::new(started.socket, self.transport)?;
        let (sender, exit) = watch::channel(None);
        let pidfd = pidfd_open(Pid::from_child(&started.child), PidfdFlags::NONBLOCK)?;
        let death = watch_descriptor(pidfd)?;
        let (running, metrics) = (Arc::clone(&link), Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let ended = catch(running.run(inbound, async { drop(death.readable().await) })).await;
            let outcome = ended.unwrap_or_else(|panic| {
                metrics.panicked(&panic, "a worker whose frames were being read is ended");
                running.condemn(PANIC);
                Ok(())
            });
            kill_group(pid);
            let _ = death.readable().await;
            let status = started.child.wait();
            // Its last words belong to the cause; a grandchild that left the group could hold the pipe open for ever.
            if let Some(reading) = reading {
                let _ = tokio::time::timeout(std::time::Duration::from_millis(100), reading).await;
            }
            let exit = explain(status, outcome.err().map(|error| error.to_string()));
            let cause = running.sentence().unwrap_or(exit.cause);
            sender.send_replace(Some(Exit { cause, ..exit }));
        });
        Ok(Worker { pid, link, output, metrics: Arc::clone(&self.metrics), exit })
    }
}

fn explain(status: io::Result<ExitStatus>, bad_frame: Option<String>) -> Exit {
    let (text, cause) = match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => (format!("signal {signal}{}", signal_name(signal)), "signal"),
            (None, code) => (format!("exit status {}", code.unwrap_or(-1)), "exit"),
        },
        Err(error) => (format!("an unknown end ({error})"), "exit"),
    };
    Exit { status: text, cause: if bad_frame.is_some() { "bad_frame" } else { cause }, bad_frame }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// A variable that tells the engine something: settings, and what a service manager hands over, which user code and
/// engines that it starts must not take for its own.
fn is_engines_own(name: &OsStr) -> bool {
    const MANAGER: [&str; 4] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    name.as_bytes().starts_with(b"SAMOVAR_") || MANAGER.iter().any(|manager| name == *manager)
}

/// The nice values of this thread and of a worker that nobody waits for; none where it could not be raised again: what
/// the kernel allows depends on more than can be read (setpriority(2)), so a thread of its own tries.
fn low_priority() -> Option<(i32, i32)> {
    let normal = getpriority_process(None).ok()?;
    let low = (normal + LOWER_BY).min(LOWEST);
    let attempt =
        std::thread::spawn(move || [low, normal].into_iter().all(|nice| setpriority_process(None, nice).is_ok()));
    attempt.join().is_ok_and(|is_allowed| is_allowed).then_some((normal, low))
}

/// Start a process, which inherits the nice value of this thread: `low` is that of now, and what it shall be meanwhile.
fn start(command: &[String], low: Option<(i32, i32)>) -> io::Result<Started> {
    let [program, arguments @ ..] = command else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (engine, worker) = UnixStream::pair()?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_engines_own(name)) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(worker)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some((_, low)) = low {
        setpriority_process(None, low)?;
    }
    let child = command.spawn();
    if let Some((normal, _)) = low {
        setpriority_process(None, normal)?;
    }
    Ok(Started { child: child?, socket: engine })
}
