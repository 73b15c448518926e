//! PostgreSQL's own programs, and servers that a test starts with them.

use std::{
    env, fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::PathBuf,
    process::Command,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;
use uuid::Uuid;

use crate::database;

const SOCKET: &str = "pg_stat_tmp";

/// A shell in a new folder, with PostgreSQL's programs on its path. It runs as the user of the tests' server,
/// because they refuse to run as root. The servers that it starts in its folder end with it.
pub struct Shell {
    pub folder: PathBuf,
    pub programs: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Shell {
    pub fn new() -> Self {
        let server = env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is set by `make test`");
        let socket = database::socket(&server.parse().expect("a URL"));
        // Short, because it is part of a socket's path.
        let name = &Uuid::new_v4().simple().to_string()[..8];
        let mut shell =
            Self { folder: socket.with_file_name("."), programs: programs("POSTGRES_PROGRAMS"), variables: Vec::new() };
        shell.run(&format!("mkdir {name}"));
        shell.folder = socket.with_file_name(name);
        shell
    }

    pub fn set(&mut self, variable: &'static str, value: impl Into<String>) {
        self.variables.push((variable, value.into()));
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// The script's output.
    pub fn run(&self, script: &str) -> String {
        self.try_run(script).unwrap_or_else(|output| {
            let logs = self.try_run("tail -n 20 */log").unwrap_or_default();
            panic!("{output}\n{script}\n{logs}")
        })
    }

    /// The same, or the whole output of a script that fails.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        let path = format!("{}:{}", self.programs.display(), env::var("PATH").expect("a path"));
        let owner = fs::metadata(&self.folder).expect("the folder is there");
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(&self.folder)
            .env("PATH", path)
            .env("HOME", &self.folder)
            .envs(self.variables.iter().map(|(variable, value)| (variable, value)))
            .uid(owner.uid())
            .gid(owner.gid())
            .output()
            .expect("sh runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (printed, errors) = (text(output.stdout), text(output.stderr));
        if output.status.success() { Ok(printed) } else { Err(printed + &errors) }
    }

    /// Makes a server's data folder with these settings. The socket is in a part of it that no base backup copies.
    pub fn initialize(&self, data: &str, settings: &str) {
        self.run(&format!(
            "initdb --pgdata={data} --username=club --auth=trust --encoding=UTF8 --locale=C --data-checksums --no-sync
            cat >> {data}/postgresql.conf <<'END'
listen_addresses = ''
unix_socket_directories = '{SOCKET}'
fsync = off
{settings}
END"
        ));
    }

    pub fn start(&self, data: &str) {
        self.run(&format!("pg_ctl start --pgdata={data} --log={data}/log"));
    }

    /// A database of the server in this data folder.
    pub fn url(&self, data: &str, database: &str) -> Url {
        let socket = self.path(&format!("{data}/{SOCKET}"));
        let host = utf8_percent_encode(&socket, NON_ALPHANUMERIC);
        format!("postgresql://club@{host}/{database}").parse().expect("a URL")
    }
}

impl Default for Shell {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.try_run(
            r#"for pid in */postmaster.pid; do pg_ctl stop --pgdata="$(dirname "$pid")" --mode=immediate; done"#,
        );
    }
}

/// The folder of the programs that this variable names; dev/with_database.py says which there are.
pub fn programs(variable: &str) -> PathBuf {
    PathBuf::from(env::var(variable).unwrap_or_else(|_| panic!("{variable} is set by `make test`")))
}
