//! Loads and unloads that somebody asks for: told to the control plane, which answers when they have ended.

use std::sync::atomic::Ordering;

use samovar_core::config::Control;
use samovar_core::error::{Code, Error};
use samovar_core::events::Event;
use tokio::sync::oneshot;

use super::{DataPlane, shutting_down};

/// Who is on the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Whoever reaches a door.
    Client,
    /// The user who runs the engine: nobody else can open the admin socket.
    Owner,
}

impl DataPlane {
    /// Load or reload by name; waits for the end of the load. Errors: `control_disabled` unless the owner asks,
    /// `unknown_model`, `load_failed`, `shutting_down`.
    pub async fn load(&self, model: &str, asker: Asker) -> Result<(), Error> {
        self.control(model, asker, |ticket, name| Event::Load { ticket, name }).await
    }

    /// Unload by name; waits for the end of the unload. Errors as [`Self::load`].
    pub async fn unload(&self, model: &str, asker: Asker) -> Result<(), Error> {
        self.control(model, asker, |ticket, name| Event::Unload { ticket, name }).await
    }

    /// Answer a load or unload that a client asked for.
    pub fn reply(&self, ticket: u64, result: Result<(), Error>) {
        if let Some(asker) = self.tickets.lock().remove(&ticket) {
            let _ = asker.send(result);
        }
    }

    async fn control(&self, model: &str, asker: Asker, event: impl FnOnce(u64, String) -> Event) -> Result<(), Error> {
        if asker == Asker::Client && self.config.control != Control::Explicit {
            let text = "models cannot be loaded or unloaded over this door; start the engine with --control explicit, \
                        or use `samovar models` on its machine";
            return Err(Error::new(Code::ControlDisabled, text));
        }
        let ticket = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (waiting, reply) = oneshot::channel();
        {
            let mut tickets = self.tickets.lock();
            if self.draining() {
                return Err(shutting_down()); // the control plane looks at nothing more
            }
            tickets.insert(ticket, waiting);
        }
        self.events.push(event(ticket, model.to_owned()));
        reply.await.unwrap_or_else(|_| Err(shutting_down()))
    }
}
