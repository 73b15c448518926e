//! The caller of a function that is for customers.

use lambda_http::{Request, RequestExt};
use serde_json::Value;

use crate::{Error, config::Settings, model::CustomerId};

/// For whom a call acts.
pub enum Caller {
    /// Any customer. The stage is open, or the shop's server calls.
    Anyone,
    /// One customer, whom the gateway has authenticated.
    Customer(CustomerId),
}

impl Caller {
    /// The only customer whose subscriptions the call may see and change.
    pub fn customer(&self) -> Option<&CustomerId> {
        match self {
            Self::Anyone => None,
            Self::Customer(customer) => Some(customer),
        }
    }

    /// Refuses to act for a customer who is not the caller.
    pub fn may_act_for(&self, customer: &CustomerId) -> Result<(), Error> {
        if self.customer().is_none_or(|caller| caller == customer) { Ok(()) } else { Err(Error::CustomerMismatch) }
    }
}

/// The claim that names the customer, if the gateway authenticates customers.
pub struct CustomerClaim(Option<String>);

impl CustomerClaim {
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        Self(settings.customer_claim())
    }

    /// A stage with a claim never takes a call without it for anyone's.
    pub fn caller(&self, request: &Request) -> Result<Caller, Error> {
        let Some(name) = &self.0 else { return Ok(Caller::Anyone) };
        claim(request, name)
            .and_then(|customer| CustomerId::try_from(customer.to_owned()).ok())
            .map(Caller::Customer)
            .ok_or(Error::Unauthenticated)
    }
}

/// The claim as the gateway's authorizer passes it on: a REST API's user pool in `claims`, an HTTP API's JWT authorizer in
/// `jwt.claims`, a Lambda authorizer by itself.
fn claim<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let authorizer = request.request_context_ref()?.authorizer()?;
    if let Some(jwt) = &authorizer.jwt {
        return jwt.claims.get(name).map(String::as_str);
    }
    match authorizer.fields.get("claims") {
        Some(Value::Object(claims)) => claims.get(name),
        _ => authorizer.fields.get(name),
    }?
    .as_str()
}
