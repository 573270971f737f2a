//! What the NATS server does not let the user do: it says so at once, while the request waits for a
//! reply that cannot come.

use super::failed::CommandError;
use super::output::visible;
use async_nats::{Event, ServerError};
use tokio::sync::watch;

/// How the server's words begin.
const PUBLISH: &str = "Permissions Violation for Publish to ";

/// The subject to which the user may not publish, as soon as the server has refused one.
#[derive(Clone)]
pub(super) struct Denied(watch::Sender<Option<String>>);

impl Denied {
    /// Nothing is refused so far.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Takes note of what happened to the connection.
    pub fn note(&self, event: &Event) {
        let Event::ServerError(ServerError::Other(words)) = event else {
            return;
        };

        if let Some(subject) = words.strip_prefix(PUBLISH) {
            self.0
                .send_replace(Some(subject.trim_matches('"').to_owned()));
        }
    }

    /// Waits until the server refuses a subject, and returns the error.
    pub async fn wait(&self) -> CommandError {
        let mut subject = self.0.subscribe();
        let refused = match subject.wait_for(Option::is_some).await {
            Ok(subject) => subject.clone().unwrap_or_default(),
            // The sender is part of this: it cannot be gone.
            Err(_) => return std::future::pending().await,
        };

        CommandError::not_authorised(format!(
            "NATS does not let this user publish to {}: check --user and --prefix",
            visible(&refused)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(words: &str) -> Option<String> {
        let denied = Denied::new();
        denied.note(&Event::ServerError(ServerError::Other(words.to_owned())));

        denied.0.borrow().clone()
    }

    #[test]
    fn a_refused_subject_is_read_from_the_servers_words() {
        let words = "Permissions Violation for Publish to \"fav.v1.get\"";

        assert_eq!(note(words).as_deref(), Some("fav.v1.get"));
        assert_eq!(
            note("Permissions Violation for Subscription to \"x\""),
            None
        );
    }
}
