//! The stand-in auth service: it vouches for every holder of a token from `gofavorites dev token`.
//!
//! It speaks the protocol of a real auth service but is no substitute for one: its signing key is
//! in a plain file of the development platform.

use super::connect;
use super::secrets::Secrets;
use super::tokens::{AUDIENCE, ISSUER, unix_now};
use anyhow::Context as _;
use async_nats::{Client, Message};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tracing::{info, warn};
use uuid::Uuid;

/// The subject of requests for a verdict.
pub const VERIFY_SUBJECT: &str = "auth.v1.verify";
/// The subject on which revocations are published.
pub const REVOKED_SUBJECT: &str = "auth.v1.revoked";

/// Its NATS user. The user `auth` is the workers', who ask it.
const USER: &str = "auth_service";

/// Checks tokens, and signs verdicts and revocations.
pub struct AuthService {
    signing: EncodingKey,
    kid: String,
    tokens: DecodingKey,
    /// The file to which `dev revoke` appends revocations; none in tests.
    revoked: Option<PathBuf>,
}

/// A revocation: the tokens of a subject, of a session, or of both together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedTokens {
    /// The subject.
    pub sub: Option<String>,
    /// The session.
    pub sid: Option<String>,
    /// Tokens issued at or before this time are revoked, in seconds since the Unix epoch.
    pub iat: u64,
}

#[derive(Deserialize)]
struct VerifyRequest {
    token: String,
}

impl AuthService {
    /// Creates a service with the keys of a development platform, and without revocations.
    pub fn new(secrets: &Secrets) -> anyhow::Result<Self> {
        let set: JwkSet = serde_json::from_str(&secrets.token_jwks()?)?;
        let key = set.keys.first().context("no token key")?;
        let signing = EncodingKey::from_ed_der(&secrets.verdict_key()?);

        Ok(Self {
            signing,
            kid: secrets.verdict_kid()?,
            tokens: DecodingKey::from_jwk(key)?,
            revoked: None,
        })
    }

    /// Returns the signed message that announces a revocation: a security event (RFC 8417).
    pub fn revocation(&self, revoked: &RevokedTokens) -> anyhow::Result<String> {
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": revoked.iat, "jti": Uuid::now_v7().to_string(),
            "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}},
        });

        for (claim, value) in [("sub", &revoked.sub), ("sid", &revoked.sid)] {
            if let Some(value) = value {
                claims[claim] = json!(value);
            }
        }

        self.sign("secevent+jwt", &claims)
    }

    /// Returns the signed verdict on a token: introspection (RFC 7662) as a JWT (RFC 9701).
    pub fn verdict(&self, token: &str) -> anyhow::Result<String> {
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": unix_now(),
            "token_introspection": self.introspect(token),
            "token_sha256": URL_SAFE_NO_PAD.encode(crate::seal::sha256(token.as_bytes())),
        });

        self.sign("token-introspection+jwt", &claims)
    }

    /// Signs claims with the auth service's key.
    pub fn sign(&self, typ: &str, claims: &Value) -> anyhow::Result<String> {
        let header = Header {
            typ: Some(typ.into()),
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::EdDSA)
        };

        Ok(encode(&header, claims, &self.signing)?)
    }

    fn introspect(&self, token: &str) -> Value {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;

        let Ok(token) = decode::<Value>(token, &self.tokens, &validation) else {
            return json!({"active": false});
        };
        if self.is_revoked(&token.claims) {
            return json!({"active": false});
        }

        let mut response = json!({"active": true});
        for claim in ["sub", "scope", "exp", "client_id", "sid"] {
            response[claim] = token.claims[claim].clone();
        }

        response
    }

    fn is_revoked(&self, claims: &Value) -> bool {
        let matches = |claim: &str, value: &Option<String>| {
            value.as_deref().is_none_or(|value| claims[claim] == value)
        };
        let covers = |revoked: &RevokedTokens| {
            let in_time = claims["iat"].as_u64().is_some_and(|iat| iat <= revoked.iat);
            in_time && matches("sub", &revoked.sub) && matches("sid", &revoked.sid)
        };

        let revocations = self
            .revoked
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok())
            .unwrap_or_default();

        revocations
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .any(|revoked| covers(&revoked))
    }

    fn answer(&self, message: &Message) -> anyhow::Result<String> {
        let request: VerifyRequest =
            serde_json::from_slice(&message.payload).context("not a request for a verdict")?;

        self.verdict(&request.token)
    }
}

/// Appends a revocation to `file`, and publishes it to all workers.
pub async fn revoke(
    url: &str,
    secrets: &Secrets,
    file: &Path,
    revoked: &RevokedTokens,
) -> anyhow::Result<()> {
    let mut revocations = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
        .with_context(|| file.display().to_string())?;
    writeln!(revocations, "{}", serde_json::to_string(revoked)?)?;

    let client = connect(url, secrets).await?;
    let message = AuthService::new(secrets)?.revocation(revoked)?;
    client.publish(REVOKED_SUBJECT, message.into()).await?;

    Ok(client.flush().await?)
}

async fn connect(url: &str, secrets: &Secrets) -> anyhow::Result<Client> {
    let client = connect::options(secrets, USER)?
        .name("gofavorites dev auth")
        .retry_on_initial_connect()
        .connect(url)
        .await?;

    Ok(client)
}

/// Answers requests for a verdict until `shutdown` completes.
pub async fn run(
    url: &str,
    secrets: &Secrets,
    revoked: Option<PathBuf>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let service = AuthService {
        revoked,
        ..AuthService::new(secrets)?
    };
    let client = connect(url, secrets).await?;
    let mut requests = client
        .queue_subscribe(VERIFY_SUBJECT, "auth".into())
        .await?;
    client.flush().await?;

    warn!(
        "this is the STAND-IN auth service, for development: \
         it vouches for everyone who can read its key"
    );
    info!("ready");

    tokio::pin!(shutdown);
    loop {
        let request = tokio::select! {
            request = requests.next() => request.context("the subscription has ended")?,
            () = &mut shutdown => return Ok(()),
        };
        let Some(reply) = request.reply.clone() else {
            continue;
        };

        match service.answer(&request) {
            Ok(verdict) => client.publish(reply, verdict.into()).await?,
            Err(error) => warn!(%error, "cannot answer a request for a verdict"),
        }
    }
}
