//! Revocations: what the auth service takes back before it ends by itself, told to every worker.
//!
//! A message on the revocation subject is a signed security event (a JWT of `typ: secevent+jwt`, RFC 8417) that names a
//! `sub`, a `sid`, or both. It takes every verdict about them out of the cache, and leaves a mark: a verdict that is
//! older than the mark is not believed, and one that was asked for before it was heard is asked for again.

use super::Principal;
use super::keys::{Demands, KeySet};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TYP: &str = "secevent+jwt";
/// Marks kept at most: the auth service alone can make them, but it may err.
const MOST: usize = 100_000;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: u64,
    sub: Option<String>,
    sid: Option<String>,
    events: serde_json::Map<String, serde_json::Value>,
}

/// What was taken back.
#[derive(Clone)]
pub(super) struct Revocation {
    issuer: String,
    subject: Option<String>,
    session: Option<String>,
    /// When it was signed, in seconds since the Unix epoch.
    issued_at: u64,
}

impl Revocation {
    /// From a message; `None` unless it is signed by the auth service, for this service, and not of the future.
    pub(super) fn read(
        keys: &KeySet,
        issuer: &str,
        audience: &str,
        leeway_s: u64,
        text: &str,
        now: u64,
    ) -> Option<Self> {
        let demands = Demands {
            issuer: Some(issuer),
            audience: Some(audience),
            typ: Some(TYP),
            expires: false,
            leeway_s,
        };
        let claims: Claims = keys.verify(text, &demands)?;
        let names_somebody = claims.sub.is_some() || claims.sid.is_some();
        (names_somebody && !claims.events.is_empty() && claims.iat <= now + leeway_s).then_some(
            Self {
                issuer: claims.iss,
                subject: claims.sub,
                session: claims.sid,
                issued_at: claims.iat,
            },
        )
    }

    /// Whether it is about this caller: the subject and the session that it names, each where it names one.
    pub(super) fn is_about(&self, principal: &Principal) -> bool {
        let user = principal.user();
        let subject = self
            .subject
            .as_ref()
            .is_none_or(|subject| subject == user.subject());
        let session = self
            .session
            .as_ref()
            .is_none_or(|session| Some(session.as_str()) == principal.session());
        subject && session && self.issuer == user.issuer()
    }
}

/// What was heard and still counts.
pub(super) struct RevocationLog {
    /// How long a verdict may live, and so a mark counts.
    life: Duration,
    marks: Mutex<LogEntries>,
}

#[derive(Default)]
struct LogEntries {
    marks: Vec<(Instant, Revocation)>,
    /// When something may have been missed: a verdict that was asked for before may be about anybody.
    missed_at: Option<Instant>,
}

/// Whether a verdict may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// It was asked for before something was heard, or may have been missed, that could change it.
    AskAgain,
    /// It was signed before its caller was revoked.
    Revoked,
}

impl RevocationLog {
    pub(super) fn new(life: Duration) -> Self {
        Self {
            life,
            marks: Mutex::default(),
        }
    }

    pub(super) fn add(&self, revocation: Revocation) {
        let mut heard = self.lock();
        let life = self.life;
        heard.marks.retain(|(at, _)| at.elapsed() < life);
        if heard.marks.len() < MOST {
            heard.marks.push((Instant::now(), revocation));
        } else {
            heard.missed_at = Some(Instant::now());
        }
    }

    /// Something may have been missed.
    pub(super) fn missed(&self) {
        self.lock().missed_at = Some(Instant::now());
    }

    /// How a verdict stands that was asked for at `asked` and signed at `signed_at`, in seconds since the Unix epoch.
    pub(super) fn standing(
        &self,
        principal: &Principal,
        asked: Instant,
        signed_at: u64,
    ) -> Standing {
        let heard = self.lock();
        let about = || {
            heard
                .marks
                .iter()
                .filter(|(at, mark)| at.elapsed() < self.life && mark.is_about(principal))
        };
        if about().any(|(at, mark)| *at < asked && signed_at < mark.issued_at) {
            return Standing::Revoked;
        }
        if about().any(|(at, _)| *at >= asked) || heard.missed_at.is_some_and(|at| at >= asked) {
            return Standing::AskAgain;
        }
        Standing::Good
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LogEntries> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn it_is_about_whom_it_names() {
        let table = [
            (revocation(Some("s"), None), true),
            (revocation(Some("other"), None), false),
            (revocation(None, Some("1")), true),
            (revocation(None, Some("2")), false),
            (revocation(Some("s"), Some("2")), false),
        ];
        for (revocation, about) in table {
            assert_eq!(revocation.is_about(&caller("s", "1")), about);
        }
        let foreign = Revocation {
            issuer: "another".into(),
            ..revocation(Some("s"), None)
        };
        assert!(!foreign.is_about(&caller("s", "1")));
    }

    #[test]
    fn a_verdict_that_was_under_way_is_asked_for_again_and_an_older_one_is_refused() {
        let marks = RevocationLog::new(Duration::from_secs(60));
        let before = Instant::now();
        assert_eq!(
            marks.standing(&caller("s", "1"), before, 99),
            Standing::Good
        );
        marks.add(revocation(Some("s"), None));
        assert_eq!(
            marks.standing(&caller("s", "1"), before, 101),
            Standing::AskAgain
        );
        assert_eq!(
            marks.standing(&caller("other", "1"), before, 99),
            Standing::Good
        );
        let after = Instant::now() + Duration::from_nanos(1);
        assert_eq!(
            marks.standing(&caller("s", "1"), after, 99),
            Standing::Revoked
        );
        assert_eq!(
            marks.standing(&caller("s", "1"), after, 100),
            Standing::Good
        );
        marks.missed();
        assert_eq!(
            marks.standing(&caller("other", "1"), before, 200),
            Standing::AskAgain
        );
    }
}
