//! What an execution of the state machine says that charges a month on AWS: docs/bill-run-on-aws.md.

use std::{collections::BTreeMap, env};

use anyhow::{Context, bail, ensure};
use aws_config::Region;
use reqwest::{
    Client, Url,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    client::NotAuthorized,
    journal::Standing,
    plan::{Planned, request_id},
    rules::Outcome,
    signing::Signer,
    summary::Counts,
};

/// The last state's input has this of a run that ended without everybody charged.
const EVENTS: u32 = 20;

/// The machine's output.
#[derive(Deserialize)]
pub struct Summary {
    pub month: String,
    listed: u64,
    charged: u64,
    already_charged: u64,
    /// By code.
    refused: BTreeMap<String, u64>,
    unresolved: Named,
    not_sendable: Named,
    dry_run: bool,
}

/// How many, and the first of them.
#[derive(Deserialize)]
struct Named {
    count: u64,
    ids: Vec<String>,
}

#[derive(Deserialize)]
struct Execution {
    status: String,
    output: Option<String>,
    error: Option<String>,
    cause: Option<String>,
}

#[derive(Deserialize)]
struct History {
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    state_entered_event_details: Option<Entered>,
}

#[derive(Deserialize)]
struct Entered {
    name: String,
    input: String,
}

#[derive(Deserialize)]
struct State {
    result: Option<Summary>,
}

impl Summary {
    /// Of an execution that ended.
    pub async fn read(arn: &str) -> anyhow::Result<Self> {
        let service = Service::of(arn).await?;
        let execution: Execution = service.ask("DescribeExecution", &json!({ "executionArn": arn })).await?;
        ensure!(execution.status != "RUNNING", "the execution is not at its end");
        if let Some(output) = execution.output.filter(|_| execution.status == "SUCCEEDED") {
            return serde_json::from_str(&output).context("the execution's output is not a bill run's");
        }
        let question = json!({ "executionArn": arn, "reverseOrder": true, "maxResults": EVENTS });
        let history: History = service.ask("GetExecutionHistory", &question).await?;
        let last = history.events.into_iter().find_map(|event| event.state_entered_event_details);
        let Entered { name, input } = last.context("the execution entered no state")?;
        let state: State = serde_json::from_str(&input).context("the execution is not a bill run's")?;
        let (error, cause) = (execution.error.unwrap_or_default(), execution.cause.unwrap_or_default());
        state
            .result
            .with_context(|| format!("the execution ended before it summed up, in the state {name}: {error} {cause}"))
    }

    pub fn counts(&self) -> Counts {
        Counts {
            charged: self.charged,
            already_charged: self.already_charged,
            refused: self.refused.values().sum(),
            unknown: self.unresolved.count,
            left: if self.dry_run { self.listed } else { self.not_sendable.count },
        }
    }

    /// Those that are not charged, but for who was refused.
    pub fn without_outcome(&self) -> impl Iterator<Item = (Planned, Standing)> {
        let unknown = self.unresolved.ids.iter().map(|id| (id, Outcome::Unknown));
        let left = self.not_sendable.ids.iter().map(|id| (id, Outcome::Left));
        unknown.chain(left).map(|(id, outcome)| {
            let planned = Planned { id: id.clone(), request_id: request_id(&self.month, id) };
            (planned, Standing { outcome, ..Standing::default() })
        })
    }
}

/// Step Functions, with its JSON protocol.
struct Service {
    http: Client,
    endpoint: Url,
    signer: Signer,
}

impl Service {
    async fn of(arn: &str) -> anyhow::Result<Self> {
        let Some(region) = arn.split(':').nth(3).filter(|_| arn.contains(":states:") && arn.contains(":execution:"))
        else {
            bail!("{arn} is not the ARN of an execution");
        };
        let endpoint =
            env::var("AWS_ENDPOINT_URL").unwrap_or_else(|_| format!("https://states.{region}.amazonaws.com"));
        let signer = Signer::new("states", Region::new(region.to_owned()).into())
            .await
            .map_err(|error| NotAuthorized(format!("{error:#}")))?;
        Ok(Self { http: Client::builder().build()?, endpoint: endpoint.parse()?, signer })
    }

    async fn ask<A: DeserializeOwned>(&self, operation: &str, question: &Value) -> anyhow::Result<A> {
        let mut request = self
            .http
            .post(self.endpoint.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"))
            .header("x-amz-target", format!("AWSStepFunctions.{operation}"))
            .body(question.to_string())
            .build()?;
        self.signer.sign(&mut request).await.map_err(|error| NotAuthorized(format!("{error:#}")))?;
        let answer = self.http.execute(request).await?;
        let (status, body) = (answer.status(), answer.text().await?);
        if status.is_success() {
            return serde_json::from_str(&body).context("Step Functions answers something else");
        }
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        let code = problem["__type"].as_str().unwrap_or_default();
        let said = format!("Step Functions answers {status} {code}");
        if status == 403 || code.contains("AccessDenied") || code.contains("UnrecognizedClient") {
            bail!(NotAuthorized(said));
        }
        bail!(said)
    }
}
