//! Who connects: what CONNECT carries for it.

use crate::domain::opaque_debug;
use serde::Serialize;
use std::io;
use std::sync::Arc;

/// What CONNECT carries of who connects: a secret, or a signature that shows that the client has
/// one. All fields are empty at a server without users, or one that goes by the client certificate.
#[derive(Clone, Default, Serialize)]
pub struct Login {
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(rename = "pass", skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// A token.
    #[serde(rename = "auth_token", skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The public key of the user's nkey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<String>,
    /// The user's JWT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<String>,
    /// The server's nonce signed with the user's nkey, in base64 for URLs without padding.
    #[serde(rename = "sig", skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// Where the login comes from. It is called at each connect, so credentials that have changed in a
/// file are taken up without a restart.
#[derive(Clone)]
pub struct LoginSource(Arc<Callback>);

type Callback = dyn Fn(&str) -> io::Result<Login> + Send + Sync;

opaque_debug!(Login, LoginSource);

impl LoginSource {
    /// Returns a source of what `login` returns for the server's nonce. It may read files.
    pub fn new(login: impl Fn(&str) -> io::Result<Login> + Send + Sync + 'static) -> Self {
        Self(Arc::new(login))
    }

    /// Returns the login as it is now, read where that blocks nobody.
    pub(super) async fn login(&self, nonce: String) -> io::Result<Login> {
        let source = self.0.clone();
        let login = tokio::task::spawn_blocking(move || source(&nonce)).await;

        login.map_err(io::Error::other)?
    }
}

impl Default for LoginSource {
    fn default() -> Self {
        Self::new(|_| Ok(Login::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn only_what_is_there_is_sent() {
        let login = Login {
            password: Some("p".into()),
            signature: Some("s".into()),
            ..Login::default()
        };

        let sent = serde_json::to_string(&login).expect("JSON");

        assert_eq!(sent, r#"{"pass":"p","sig":"s"}"#);
    }

    #[tokio::test]
    async fn the_source_is_called_each_time() {
        let count = AtomicU64::new(0);
        let source = LoginSource::new(move |nonce| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            Ok(Login {
                token: Some(format!("{nonce}{number}")),
                ..Login::default()
            })
        });

        for expected in ["n0", "n1"] {
            let login = source.login("n".into()).await.expect("a login");
            assert_eq!(login.token.as_deref(), Some(expected));
        }
    }
}
