//! Checking a code that somebody typed.

use super::{COUNTER_MAX, Moving, Otp};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

/// How many counters after the next one are tried (RFC 4226, section 7.4).
const LOOK_AHEAD: u64 = 10;

/// The result of checking a code.
#[derive(Debug)]
pub enum CodeCheck {
    /// The code is right. With the secret after its use.
    Right(Otp),
    /// The code was right, and its step was accepted before.
    AlreadyUsed,
    /// The code is wrong.
    Wrong,
}

impl Otp {
    /// Checks a code at that moment, in seconds since the Unix epoch.
    ///
    /// Codes that follow the time may be one step early or late (RFC 6238, section 5.2), and a step
    /// at or before the last accepted one is not accepted again. Codes that follow a counter may be
    /// those of the next counter and of ten more.
    pub fn check(&self, typed: &str, now_s: u64) -> CodeCheck {
        match self.facts.moving {
            Moving::Hotp { counter } => self.check_counter(typed, counter),
            Moving::Totp { .. } | Moving::Steam => {
                self.check_step(typed, self.facts.period_s().unwrap_or(1), now_s)
            }
        }
    }

    fn check_counter(&self, typed: &str, next: u64) -> CodeCheck {
        let last = next.saturating_add(LOOK_AHEAD).min(COUNTER_MAX);
        let found = (next..=last).find(|counter| self.is_code(typed, *counter));

        match found {
            Some(counter) => CodeCheck::Right(self.clone().used(counter + 1, 0)),
            None => CodeCheck::Wrong,
        }
    }

    fn check_step(&self, typed: &str, period_s: u64, now_s: u64) -> CodeCheck {
        let now = now_s / period_s;
        let steps = now.saturating_sub(1)..=now + 1;
        let right: Vec<u64> = steps.filter(|step| self.is_code(typed, *step)).collect();

        // Another period than that of the accepted step is compared by time.
        let fresh = right
            .iter()
            .find(|step| **step * period_s >= self.hidden.accepted_to_s);
        match fresh {
            Some(step) => CodeCheck::Right(self.clone().used(0, (step + 1) * period_s)),
            None if right.is_empty() => CodeCheck::Wrong,
            None => CodeCheck::AlreadyUsed,
        }
    }

    fn is_code(&self, typed: &str, counter: u64) -> bool {
        // The comparison takes the same time for every code, so the time reveals nothing about it.
        // Steam's codes are in upper case.
        let code = self.code(counter);
        let typed = Zeroizing::new(typed.to_ascii_uppercase());
        verify_slices_are_equal(code.as_bytes(), typed.as_bytes()).is_ok()
    }

    /// Returns the code of the next counter, and the secret after its use; `None` if the greatest
    /// counter was used, or the codes follow the time.
    pub fn next_code(&self) -> Option<(Zeroizing<String>, u64, Self)> {
        let counter = self
            .facts
            .counter()
            .filter(|counter| *counter <= COUNTER_MAX)?;

        Some((
            self.code(counter),
            counter,
            self.clone().used(counter + 1, 0),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn otp(rest: &str) -> Otp {
        Otp::parse(&format!("otpauth://{rest}secret={SECRET}")).expect("valid")
    }

    #[track_caller]
    fn accepted(check: CodeCheck) -> Otp {
        match check {
            CodeCheck::Right(otp) => otp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_step_is_accepted_once_and_may_drift_by_one() {
        let totp = otp("totp/a?");

        for (now_s, is_right) in [(60, true), (119, true), (0, false), (150, false)] {
            let right = matches!(totp.check(&totp.code(3), now_s), CodeCheck::Right(_));
            assert_eq!(right, is_right, "at {now_s}");
        }

        let used = accepted(totp.check(&totp.code(3), 95));
        assert!(matches!(
            used.check(&totp.code(3), 95),
            CodeCheck::AlreadyUsed
        ));
        assert!(matches!(
            used.check(&totp.code(2), 95),
            CodeCheck::AlreadyUsed
        ));
        accepted(used.check(&totp.code(4), 95));
    }

    #[test]
    fn steps_of_another_period_are_compared_by_time() {
        let used = accepted(otp("totp/a?").check(&otp("totp/a?").code(3), 95));
        let slower = used.replaced_by(otp("totp/a?period=60&"));

        assert!(matches!(
            slower.check(&slower.code(1), 119),
            CodeCheck::AlreadyUsed
        ));
        accepted(slower.check(&slower.code(2), 125));
    }

    #[test]
    fn a_counter_may_be_ten_ahead_and_never_behind() {
        let hotp = otp("hotp/a?counter=5&");

        let used = accepted(hotp.check(&hotp.code(15), 0));

        assert_eq!(used.facts().counter(), Some(16));
        assert!(matches!(hotp.check(&hotp.code(16), 0), CodeCheck::Wrong));
        assert!(matches!(hotp.check(&hotp.code(4), 0), CodeCheck::Wrong));
    }

    #[test]
    fn the_greatest_counter_is_the_last() {
        let hotp = otp(&format!("hotp/a?counter={COUNTER_MAX}&"));

        let (code, counter, used) = hotp.next_code().expect("one is left");

        assert_eq!(counter, COUNTER_MAX);
        assert_eq!(code, hotp.code(COUNTER_MAX));
        assert!(used.next_code().is_none());
        assert!(matches!(used.check(&code, 0), CodeCheck::Wrong));
    }

    #[test]
    fn a_code_of_steam_may_be_typed_in_lower_case() {
        let steam = otp("steam/a?");

        accepted(steam.check(&steam.code(3).to_ascii_lowercase(), 95));
    }
}
