//! The two key sets that the settings name: those of verdicts, and those of callers' tokens.

use super::AuthSettings;
use super::key_source::KeySource;
use super::keys::KeySetError;
use std::iter;

/// The keys that the settings name.
pub struct Keys {
    pub(super) of_verdicts: KeySource,
    /// `None` if the settings name no keys of tokens.
    pub(super) of_tokens: Option<KeySource>,
}

impl Keys {
    /// Reads the keys.
    ///
    /// # Errors
    ///
    /// Fails if the keys or `algorithms` of the settings cannot be used.
    pub fn new(settings: &AuthSettings) -> Result<Self, KeySetError> {
        Ok(Self {
            of_verdicts: of_verdicts(settings)?,
            of_tokens: of_tokens(settings)?,
        })
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &KeySource> {
        iter::once(&self.of_verdicts).chain(&self.of_tokens)
    }

    /// Returns whether everything that the `former` keys accept is accepted by these too.
    pub(super) fn hold_all_of(&self, former: &Self) -> bool {
        let holds = |new: &KeySource, old: &KeySource| new.current().holds_all_of(&old.current());
        let accepts_tokens = match (&self.of_tokens, &former.of_tokens) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(new), Some(old)) => holds(new, old),
        };

        accepts_tokens && holds(&self.of_verdicts, &former.of_verdicts)
    }
}

fn of_verdicts(settings: &AuthSettings) -> Result<KeySource, KeySetError> {
    let algorithms = &settings.algorithms;
    if settings.verdict_keys.is_empty() {
        KeySource::file("verdict_keys_file", &settings.verdict_keys_file, algorithms)
    } else {
        KeySource::inline("verdict_keys", &settings.verdict_keys, algorithms)
    }
}

fn of_tokens(settings: &AuthSettings) -> Result<Option<KeySource>, KeySetError> {
    let algorithms = &settings.algorithms;
    if !settings.token_keys.is_empty() {
        KeySource::inline("token_keys", &settings.token_keys, algorithms).map(Some)
    } else if !settings.token_keys_file.as_os_str().is_empty() {
        KeySource::file("token_keys_file", &settings.token_keys_file, algorithms).map(Some)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn jwks(numbers: &[u8]) -> String {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        let jwk = |number: &u8| {
            let x = URL_SAFE_NO_PAD.encode([*number; 32]);
            json!({"kty": "OKP", "crv": "Ed25519", "x": x})
        };
        let keys: Vec<_> = numbers.iter().map(jwk).collect();
        json!({ "keys": keys }).to_string()
    }

    fn keys(of_verdicts: &[u8], of_tokens: &[u8]) -> Keys {
        let settings = AuthSettings {
            verdict_keys: jwks(of_verdicts),
            token_keys: match of_tokens {
                [] => String::new(),
                numbers => jwks(numbers),
            },
            ..AuthSettings::default()
        };

        Keys::new(&settings).expect("usable")
    }

    #[test]
    fn keys_that_accept_less_than_before_are_known_as_such() {
        let former = keys(&[1], &[2]);

        assert!(keys(&[1, 3], &[2]).hold_all_of(&former));
        assert!(keys(&[1], &[]).hold_all_of(&former), "it checks no token");
        assert!(!keys(&[3], &[2]).hold_all_of(&former));
        assert!(!keys(&[1], &[3]).hold_all_of(&former));
        assert!(!former.hold_all_of(&keys(&[1], &[])), "it checks tokens");
    }
}
