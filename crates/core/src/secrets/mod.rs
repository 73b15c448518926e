//! Secrets: a value, or a reference to where it is kept.

mod extension;
mod reference;

use secrecy::SecretString;

pub use extension::SecretError;
pub use reference::Reference;

/// A secret setting.
pub enum Secret {
    Value(SecretString),
    Reference(Reference),
}

impl Secret {
    /// Any text is a value, except an ARN. `None` if it is an ARN of neither a parameter nor a secret.
    pub fn parse(text: String) -> Option<Self> {
        if text.starts_with("arn:") {
            Reference::parse(&text).map(Self::Reference)
        } else {
            Some(Self::Value(text.into()))
        }
    }

    pub async fn reveal(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Reference(reference) => reference.fetch().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_texts_are_values_and_other_arns_are_nothing() {
        for value in ["", "hunter2", "https://example.com/arn:aws"] {
            assert!(matches!(Secret::parse(value.to_owned()), Some(Secret::Value(_))), "{value}");
        }
        for arn in ["arn:aws:s3:::bucket", "arn:aws:ssm:r:1:document/x", "arn:aws:secretsmanager:r:1:secret:n:a:b:c:d"]
        {
            assert!(Secret::parse(arn.to_owned()).is_none(), "{arn}");
        }
    }
}
