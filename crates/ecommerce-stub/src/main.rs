//! The stand-in as a program: `ECOMMERCE_API_KEY=… ECOMMERCE_API_SECRET=… ecommerce-stub PORT`.

use std::{env, io};

use ecommerce_stub::{Credentials, Platform};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let port = env::args().nth(1).and_then(|port| port.parse().ok()).ok_or(io::Error::other("the port is missing"))?;
    let setting = |name: &str| env::var(name).map_err(|_| io::Error::other(format!("{name} is not set")));
    let credentials = Credentials { key: setting("ECOMMERCE_API_KEY")?, secret: setting("ECOMMERCE_API_SECRET")? };
    let platform = Platform::start(port, credentials).await?;
    println!("the e-commerce platform's stand-in listens on {}", platform.base_url());
    tokio::signal::ctrl_c().await
}
