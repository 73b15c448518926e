//! References to values in the SSM Parameter Store or in Secrets Manager, written as ARNs.

/// Where a value is kept.
pub enum Reference {
    Parameter {
        name: String,
    },
    Secret {
        arn: String,
        /// The secret is a JSON object, and the value is this member of it.
        member: Option<String>,
        version_stage: Option<String>,
        version_id: Option<String>,
    },
}

impl Reference {
    /// Reads the ARN of a parameter, or of a secret with an optional `:json-key:version-stage:version-id`, as ECS
    /// does in `valueFrom`.
    pub fn parse(arn: &str) -> Option<Self> {
        let parts: Vec<_> = arn.split(':').collect();
        match *parts.as_slice() {
            ["arn", _, "ssm", _, _, parameter] => {
                let name = parameter.strip_prefix("parameter/").filter(|name| !name.is_empty())?;
                // The ARN of a name in a hierarchy leaves out the name's first slash.
                let slash = if name.contains('/') { "/" } else { "" };
                Some(Self::Parameter { name: format!("{slash}{name}") })
            }
            ["arn", _, "secretsmanager", _, _, "secret", name, ref selectors @ ..]
                if !name.is_empty() && selectors.len() <= 3 =>
            {
                let selector = |index: usize| {
                    selectors.get(index).filter(|selector| !selector.is_empty()).map(|selector| (*selector).to_owned())
                };
                Some(Self::Secret {
                    arn: parts[..7].join(":"),
                    member: selector(0),
                    version_stage: selector(1),
                    version_id: selector(2),
                })
            }
            _ => None,
        }
    }
}
