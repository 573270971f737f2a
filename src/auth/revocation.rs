//! Revocations: the auth service publishes to every worker which verdicts end before their time.
//!
//! A message on the revocation subject is a signed security event (a JWT of `typ: secevent+jwt`,
//! RFC 8417) that names a `sub`, a `sid`, or both. The worker removes every verdict about them from
//! the cache, and logs the revocation for some time. A verdict that was signed before a logged
//! revocation is refused. A verdict that the worker asked for before the revocation arrived is
//! asked for again.

use super::Principal;
use super::claims::{Demands, JwtError};
use super::keys::KeySet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TYP: &str = "secevent+jwt";
/// The maximum number of logged revocations. Only the auth service can make them, but it may have a
/// bug.
const REVOCATIONS_MAX: usize = 100_000;

/// A revocation of all tokens of a user, of a session, or of a user within a session.
#[derive(Clone)]
pub(super) struct Revocation {
    issuer: String,
    subject: Option<String>,
    session: Option<String>,
    /// The time of the signature, in whole seconds since the Unix epoch, rounded down.
    issued_at: u64,
}

impl Revocation {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// Fails if the auth service did not sign the message, if it is for another service or issued
    /// in the future, or if it has no event, or neither a `sub` nor a `sid`.
    pub(super) fn read(
        keys: &KeySet,
        issuer: &str,
        audience: &str,
        leeway_s: u64,
        text: &str,
        now: u64,
    ) -> Result<Self, JwtError> {
        let demands = Demands {
            issuer: Some(issuer),
            audience: Some(audience),
            typ: Some(TYP),
            expires: false,
            leeway_s,
        };
        let claims = keys.verify(text, &demands, now)?;

        let iat = claims.require_date("iat")?;
        if iat.is_future(now, leeway_s) {
            return Err(claims.wrong("iat"));
        }
        if claims.require_object("events", "events.")?.is_empty() {
            return Err(claims.wrong("events"));
        }

        let subject = claims.text("sub")?.map(str::to_owned);
        let session = claims.text("sid")?.map(str::to_owned);
        if subject.is_none() && session.is_none() {
            return Err(claims.wrong("sub"));
        }

        Ok(Self {
            issuer: claims.require_text("iss")?.to_owned(),
            subject,
            session,
            issued_at: iat.whole_seconds(),
        })
    }

    /// Returns whether the revocation applies to this caller. The issuer must match. The subject
    /// and the session must match if the revocation names them.
    pub(super) fn is_about(&self, principal: &Principal) -> bool {
        let user = principal.user();
        let subject_matches = self
            .subject
            .as_ref()
            .is_none_or(|subject| subject == user.subject());
        let session_matches = self
            .session
            .as_ref()
            .is_none_or(|session| Some(session.as_str()) == principal.session());

        subject_matches && session_matches && self.issuer == user.issuer()
    }
}

/// The revocations that were received and may still apply to a verdict.
pub(super) struct RevocationLog {
    /// How long a verdict can live, and so how long a revocation applies.
    life: Duration,
    entries: Mutex<LogEntries>,
}

#[derive(Default)]
struct LogEntries {
    /// The revocations, and when each of them arrived.
    revocations: Vec<(Instant, Revocation)>,
    /// The last time at which a revocation may have been missed. The missed revocation may apply to
    /// any verdict that was asked for before this time.
    gap_at: Option<Instant>,
}

/// Whether a verdict may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// After the worker asked, a revocation arrived, or may have been missed, that could change the
    /// verdict.
    AskAgain,
    /// The verdict was signed before its caller was revoked.
    Revoked,
}

impl RevocationLog {
    pub(super) fn new(life: Duration) -> Self {
        Self {
            life,
            entries: Mutex::default(),
        }
    }

    /// Logs a revocation, and drops the expired ones. If the log is full, it records a gap instead.
    pub(super) fn add(&self, revocation: Revocation) {
        let mut entries = self.lock();
        entries
            .revocations
            .retain(|(received_at, _)| received_at.elapsed() < self.life);

        if entries.revocations.len() < REVOCATIONS_MAX {
            entries.revocations.push((Instant::now(), revocation));
        } else {
            entries.gap_at = Some(Instant::now());
        }
    }

    /// Records that a revocation may have been missed.
    pub(super) fn add_gap(&self) {
        self.lock().gap_at = Some(Instant::now());
    }

    /// Returns the standing of a verdict. The worker asked for it at `asked_at`; the auth service
    /// signed it at `signed_at`, in seconds since the Unix epoch.
    pub(super) fn standing(
        &self,
        principal: &Principal,
        asked_at: Instant,
        signed_at: u64,
    ) -> Standing {
        let entries = self.lock();
        let mut relevant = entries
            .revocations
            .iter()
            .filter(|(at, revocation)| at.elapsed() < self.life && revocation.is_about(principal));

        let is_revoked = relevant
            .clone()
            .any(|(at, revocation)| *at < asked_at && signed_at < revocation.issued_at);
        if is_revoked {
            return Standing::Revoked;
        }

        let arrived_since = relevant.any(|(at, _)| *at >= asked_at);
        if arrived_since || entries.gap_at.is_some_and(|at| at >= asked_at) {
            return Standing::AskAgain;
        }

        Standing::Good
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LogEntries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::UserId;

    fn caller(subject: &str, session: &str) -> Principal {
        Principal::new(UserId::new("i", subject), "", None, Some(session.into()))
    }

    fn revocation(subject: Option<&str>, session: Option<&str>) -> Revocation {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Revocation {
            issuer: "i".into(),
            subject: text(subject),
            session: text(session),
            issued_at: 100,
        }
    }

    #[test]
    fn it_applies_to_the_user_and_the_session_that_it_names() {
        let cases = [
            (revocation(Some("s"), None), true),
            (revocation(Some("other"), None), false),
            (revocation(None, Some("1")), true),
            (revocation(None, Some("2")), false),
            (revocation(Some("s"), Some("2")), false),
        ];
        let foreign = Revocation {
            issuer: "another".into(),
            ..revocation(Some("s"), None)
        };

        for (revocation, applies) in cases {
            assert_eq!(revocation.is_about(&caller("s", "1")), applies);
        }
        assert!(!foreign.is_about(&caller("s", "1")));
    }

    #[test]
    fn a_verdict_asked_for_before_a_revocation_is_asked_for_again() {
        let log = RevocationLog::new(Duration::from_secs(60));
        let before = Instant::now();
        let standing =
            |subject: &str, signed_at| log.standing(&caller(subject, "1"), before, signed_at);

        assert_eq!(standing("s", 99), Standing::Good);

        log.add(revocation(Some("s"), None));

        assert_eq!(standing("s", 101), Standing::AskAgain);
        assert_eq!(standing("other", 99), Standing::Good);

        log.add_gap();

        assert_eq!(standing("other", 200), Standing::AskAgain);
    }

    #[test]
    fn a_verdict_signed_before_a_revocation_is_refused() {
        let log = RevocationLog::new(Duration::from_secs(60));
        log.add(revocation(Some("s"), None));
        let after = Instant::now() + Duration::from_nanos(1);

        let older = log.standing(&caller("s", "1"), after, 99);
        let newer = log.standing(&caller("s", "1"), after, 100);

        assert_eq!(older, Standing::Revoked);
        assert_eq!(newer, Standing::Good);
    }
}
