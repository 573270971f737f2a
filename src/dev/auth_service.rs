//! The stand-in auth service: it vouches for whoever holds a token that `gofavorites dev token` made.
//!
//! It speaks the protocol of the real one and is none: its signing key lies in a file beside it.

use super::secrets::Secrets;
use super::tokens::{AUDIENCE, ISSUER, unix_now};
use anyhow::Context as _;
use async_nats::{ConnectOptions, Message};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, warn};

/// The subject on which it is asked.
pub const VERIFY_SUBJECT: &str = "auth.v1.verify";
/// The subject on which revocations are told.
pub const REVOKED_SUBJECT: &str = "auth.v1.revoked";

/// What it needs to judge and to sign.
pub struct AuthService {
    signing: EncodingKey,
    tokens: DecodingKey,
}

#[derive(Deserialize)]
struct Question {
    token: String,
}

impl AuthService {
    /// With the keys of a development platform.
    pub fn new(secrets: &Secrets) -> anyhow::Result<Self> {
        let set: JwkSet = serde_json::from_str(&secrets.token_jwks()?)?;
        let key = set.keys.first().context("no token key")?;
        Ok(Self { signing: EncodingKey::from_ed_der(&secrets.verdict_key()?), tokens: DecodingKey::from_jwk(key)? })
    }

    /// The signed verdict on a token: introspection (RFC 7662) as a JWT (RFC 9701).
    pub fn verdict(&self, token: &str) -> anyhow::Result<String> {
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": unix_now(), "token_introspection": self.introspect(token),
            "token_sha256": URL_SAFE_NO_PAD.encode(crate::seal::sha256(token.as_bytes())),
        });
        self.sign("token-introspection+jwt", &claims)
    }

    /// Signs claims of the auth service.
    pub fn sign(&self, typ: &str, claims: &Value) -> anyhow::Result<String> {
        let header = Header { typ: Some(typ.into()), kid: Some("verdict".into()), ..Header::new(Algorithm::EdDSA) };
        Ok(encode(&header, claims, &self.signing)?)
    }

    fn introspect(&self, token: &str) -> Value {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;
        let Ok(known) = decode::<Value>(token, &self.tokens, &validation) else { return json!({"active": false}) };
        let mut said = json!({"active": true});
        for claim in ["sub", "scope", "exp", "client_id", "sid"] {
            said[claim] = known.claims[claim].clone();
        }
        said
    }

    fn answer(&self, message: &Message) -> anyhow::Result<String> {
        let question: Question = serde_json::from_slice(&message.payload).context("not a question")?;
        self.verdict(&question.token)
    }
}

/// Answers until `shutdown` ends.
pub async fn run(url: &str, secrets: &Secrets, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let service = AuthService::new(secrets)?;
    let client = ConnectOptions::with_user_and_password("auth".into(), secrets.nats("auth").into())
        .name("gofavorites dev auth")
        .retry_on_initial_connect()
        .connect(url)
        .await?;
    let mut questions = client.queue_subscribe(VERIFY_SUBJECT, "auth".into()).await?;
    client.flush().await?;
    warn!("this is the STAND-IN auth service, for development: it vouches for everyone who can read its key");
    info!("ready");
    tokio::pin!(shutdown);
    loop {
        let question = tokio::select! {
            question = questions.next() => question.context("the subscription has ended")?,
            () = &mut shutdown => return Ok(()),
        };
        let Some(reply) = question.reply.clone() else { continue };
        match service.answer(&question) {
            Ok(verdict) => client.publish(reply, verdict.into()).await?,
            Err(fault) => warn!(%fault, "a question could not be answered"),
        }
    }
}
