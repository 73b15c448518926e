//! The plan: a file of JSON lines that says who is to be charged, and under which request_id.
//!
//! The first line is the header, the last one a digest of all bytes before it. A plan is never changed.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const VERSION: u32 = 1;
/// The longest request_id that the API takes.
const LONGEST_REQUEST_ID: usize = 64;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Header {
    /// The version of the format.
    plan: u32,
    pub api: String,
    /// Requests are signed.
    pub signed: bool,
    /// Of the API's `billing-month` header.
    pub month: String,
    /// When it was read, in UTC.
    pub read_at: String,
    /// How many were asked for, if more are eligible.
    pub limited_to: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Planned {
    pub id: String,
    pub request_id: String,
}

#[derive(Deserialize, Serialize)]
struct End {
    planned: usize,
    digest: String,
}

#[derive(Debug)]
pub struct Plan {
    pub header: Header,
    pub subscriptions: Vec<Planned>,
    /// SHA-256 of the plan, in hexadecimal digits. The journal is bound to it.
    pub digest: String,
}

impl Header {
    pub fn new(api: String, signed: bool, month: String, read_at: String, limited_to: Option<usize>) -> Self {
        Self { plan: VERSION, api, signed, month, read_at, limited_to }
    }
}

/// Made from the month and the id alone, so two people who charge the same month use the same one.
pub fn request_id(month: &str, id: &str) -> String {
    let request_id = format!("{month}.{id}");
    let is_valid = request_id.len() <= LONGEST_REQUEST_ID
        && request_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte));
    if is_valid { request_id } else { format!("{month}.{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())) }
}

/// Writes a plan. It appears whole or not at all, and never in place of another file.
pub fn write(path: &Path, header: &Header, ids: &[String]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut out = Hashing { out: BufWriter::new(&mut file), hash: Sha256::new() };
    write_line(&mut out, header)?;
    for id in ids {
        write_line(&mut out, &Planned { id: id.clone(), request_id: request_id(&header.month, id) })?;
    }
    let digest = hexadecimal(&out.hash.clone().finalize());
    write_line(&mut out, &End { planned: ids.len(), digest })?;
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    // So that the name, too, outlives a crash of the machine.
    File::open(folder)?.sync_all()?;
    Ok(())
}

impl Plan {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Self::parse(BufReader::new(File::open(path)?))
            .with_context(|| format!("{} is not a whole plan", path.display()))
    }

    fn parse(mut file: impl BufRead) -> anyhow::Result<Self> {
        let mut hash = Sha256::new();
        let mut line = String::new();
        file.read_line(&mut line)?;
        let header: Header = serde_json::from_str(&line).context("its first line is not a header")?;
        ensure!(header.plan == VERSION, "it is of version {} of the format, and this is {VERSION}", header.plan);
        let mut subscriptions = Vec::new();
        loop {
            hash.update(&line);
            line.clear();
            if file.read_line(&mut line)? == 0 {
                bail!("its end is missing");
            }
            if let Ok(planned) = serde_json::from_str(&line) {
                subscriptions.push(planned);
                continue;
            }
            let end: End = serde_json::from_str(&line).context("a line is neither a subscription nor the end")?;
            let digest = hexadecimal(&hash.finalize());
            ensure!((end.planned, &end.digest) == (subscriptions.len(), &digest), "it was changed after it was made");
            ensure!(file.fill_buf()?.is_empty(), "there is something after its end");
            return Ok(Self { header, subscriptions, digest });
        }
    }
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_made_from_the_month_and_the_id_alone() {
        for (id, expected) in [
            ("57f51d24-8b35-4e4c-b7b0-6eeb53bd1fba", "2026-11.57f51d24-8b35-4e4c-b7b0-6eeb53bd1fba"),
            ("a.b_c~d-E", "2026-11.a.b_c~d-E"),
            // Not valid in a request_id. These values must never change: a second one would be a second order.
            ("a b", "2026-11.1eb8f382-5c00-517a-82c0-c9a6b240e6d5"),
            ("é", "2026-11.4c9d8941-1dcb-56d3-9fe5-b5aef28ef637"),
            ("a/b", "2026-11.e557c849-a9bd-5c1d-ad6c-db261d9c9e22"),
        ] {
            assert_eq!(request_id("2026-11", id), expected, "{id}");
        }
    }

    fn header() -> Header {
        Header::new(
            "https://example.com/prod".to_owned(),
            false,
            "2026-11".to_owned(),
            "2026-11-24T21:38:53Z".to_owned(),
            None,
        )
    }

    #[test]
    fn a_plan_is_read_as_it_was_written_and_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        let ids = ["a".to_owned(), "\"".to_owned()];
        write(&path, &header(), &ids).unwrap();
        let plan = Plan::read(&path).unwrap();
        assert_eq!(plan.header.month, "2026-11");
        assert_eq!(plan.subscriptions.iter().map(|planned| &planned.id).collect::<Vec<_>>(), ["a", "\""]);
        assert_eq!(plan.digest.len(), 64);
        assert!(write(&path, &header(), &ids).is_err());
    }

    #[test]
    fn a_plan_that_was_changed_or_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        write(&path, &header(), &["a".to_owned(), "b".to_owned()]).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        assert!(Plan::parse(whole.as_bytes()).is_ok());
        for end in 0..whole.len() - 1 {
            assert!(Plan::parse(&whole.as_bytes()[..end]).is_err(), "cut after {end} bytes");
        }
        let without_a: String =
            whole.lines().filter(|line| !line.contains("\"a\"")).map(|l| format!("{l}\n")).collect();
        for changed in [
            without_a,
            whole.replace("2026-11", "2026-12"),
            whole.replace("example.com", "example.org"),
            format!("{whole}{{}}"),
        ] {
            assert!(Plan::parse(changed.as_bytes()).is_err(), "{changed}");
        }
    }
}
