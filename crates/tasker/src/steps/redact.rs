//! Takes secrets out of texts that are stored or shown.

use serde_json::Value;
use tasker_model::outcome::Failure;

/// Shorter ones are left where they are: they stand in every other text by chance.
const SECRET_BYTES_MIN: usize = 4;

/// What no failure and no log may hold.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Adds one, and its lines and words if it has several: they may be shown one by one.
    pub(super) fn add(&mut self, secret: &str) {
        self.push(secret);
        if secret.contains(char::is_whitespace) {
            secret.split_whitespace().for_each(|word| self.push(word));
        }
        // The longest first: a secret may be a part of another.
        self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
        self.0.dedup();
    }

    fn push(&mut self, secret: &str) {
        if secret.len() >= SECRET_BYTES_MIN {
            self.0.push(secret.to_owned());
        }
    }

    /// The text without them, and without the character zero, which PostgreSQL cannot store.
    pub(super) fn redacted(&self, text: &str) -> String {
        let mut text = text.replace('\0', "\u{fffd}");
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "[redacted]");
            }
        }
        text
    }

    /// The failure without them.
    pub(super) fn out_of(&self, mut failure: Box<Failure>) -> Box<Failure> {
        failure.message = self.redacted(&failure.message);
        self.out_of_value(&mut failure.context);
        failure
    }

    fn out_of_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redacted(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.out_of_value(item)),
            Value::Object(members) => members.values_mut().for_each(|m| self.out_of_value(m)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_whole_and_word_by_word() {
        let mut secrets = Secrets::default();
        secrets.add("token");
        secrets.add("Bearer token-1");
        secrets.add("abc");
        let text = "sent Bearer token-1, got token-1 and token; abc\0";
        let expected = "sent [redacted], got [redacted] and [redacted]; abc\u{fffd}";
        assert_eq!(secrets.redacted(text), expected);
    }
}
