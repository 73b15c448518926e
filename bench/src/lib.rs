//! The parts that `make bench` and `make scale` share.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use ecommerce_stub::{Credentials, Platform};
use harness::{Environment, runtime_api::Invoked};
use serde_json::Value;

/// AWS: an invocation's time is up after 15 minutes at most.
const TIME: Duration = Duration::from_secs(900);

pub async fn platform() -> Platform {
    let credentials = Credentials { key: "key".to_owned(), secret: "secret".to_owned() };
    Platform::start(0, credentials).await.expect("a free port")
}

/// A function's process that reaches the database by this URL, with these settings.
pub async fn start(binary: &Path, database: &str, platform: &Platform, settings: &[(&str, &str)]) -> Environment {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("DATABASE_URL", database)
        .env("ECOMMERCE_BASE_URL", platform.base_url())
        .env("ECOMMERCE_API_KEY", "key")
        .env("ECOMMERCE_API_SECRET", "secret")
        .envs(settings.iter().copied())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Environment::of(&mut command).await
}

pub async fn invoke(environment: &Environment, event: &Value) -> Invoked {
    environment.invoke_timed(event, TIME).await.expect("the function lives")
}

/// A quantity's values.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds.
    pub fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // Fewer than a million samples: exact as floats.
        let place = ((sorted.len() - 1) as f64 * quantile).round() as usize;
        sorted[place].as_secs_f64() * 1e3
    }
}
