//! The migrations, run by Alembic as operators run it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use harness::{Api, Call, database};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

use crate::{recovery::role, routes::secrets_and_tls::tls_before};

pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A scope with a configuration file, which is removed with it.
pub struct Scope {
    folder: PathBuf,
    pub name: String,
}

impl Scope {
    pub fn with(folder: &Path, config: Option<&Value>) -> Self {
        let scope = Self { folder: folder.to_owned(), name: format!("test_{}", Uuid::new_v4().simple()) };
        if let Some(config) = config {
            fs::write(scope.file(), config.to_string()).unwrap();
        }
        scope
    }

    pub fn of(database_url: &Url) -> Self {
        Self::in_folder(Path::new(ROOT), database_url)
    }

    fn in_folder(folder: &Path, database_url: &Url) -> Self {
        Self::with(folder, Some(&configuration(database_url)))
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}_config.json", self.name))
    }

    /// Alembic, which refuses a database that was made from other sources, as `make run` wants it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var("PYTHON").unwrap());
        command
            .args(["-m", "alembic", "-x", &format!("scope={}", self.name), "-x", "sources=same"])
            .args(arguments)
            .current_dir(&self.folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The error output, if it fails.
    pub fn alembic(&self, arguments: &[&str]) -> Result<(), String> {
        let output = self.command(arguments).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    }

    /// The one line that says why it fails.
    #[track_caller]
    pub fn refusal(mut command: Command) -> String {
        let output = command.output().unwrap();
        let said = printed(&output.stdout);
        assert!(!output.status.success() && said.lines().count() == 1, "{said}");
        assert!(!printed(&output.stderr).contains("Traceback"), "{output:?}");
        said
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.file());
    }
}

fn configuration(database_url: &Url) -> Value {
    let mut database = database::configuration(database_url);
    database["db_port"] = json!(5432);
    json!({ "database": database })
}

fn printed(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// A folder with a copy of the migrations and of these parts of the project.
fn checkout(prefix: &str, others: &[&str]) -> TempDir {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
    for part in ["migrations", "alembic.ini"].iter().chain(others) {
        let copied = Command::new("cp").args(["-r", part]).arg(folder.path()).current_dir(ROOT).status().unwrap();
        assert!(copied.success());
    }
    folder
}

/// Alembic writes a revision there, after the last one; its file.
fn new_revision(folder: &Path, message: &str) -> PathBuf {
    let scope = Scope::with(folder, None);
    let output = scope.command(&["revision", "-m", message]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = printed(&output.stdout);
    let path = said.trim_start().strip_prefix("Generating ").unwrap().split(" ... ").next().unwrap();
    folder.join(path)
}

/// Without a schema, with these options.
async fn empty_database(options: &str) -> Url {
    let server = env::var("TEST_DATABASE_URL").unwrap();
    let name = format!("test_{}", Uuid::new_v4().simple());
    let mut admin = PgConnection::connect(&server).await.unwrap();
    admin.execute(AssertSqlSafe(format!("create database {name} template template0 {options}"))).await.unwrap();
    let mut url: Url = server.parse().unwrap();
    url.set_path(&name);
    url
}

async fn ask(database_url: &Url, query: &str) -> String {
    let mut connection = PgConnection::connect(database_url.as_str()).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.unwrap()
}

/// The name of every relation, function and trigger of ours.
const INVENTORY: &str = "select coalesce(string_agg(name, ' ' order by name), '') from (
    select relname::text as name from pg_class where relnamespace = 'public'::regnamespace and relname !~ '^alembic'
    union all select proname from pg_proc where pronamespace = 'public'::regnamespace
    union all select tgname from pg_trigger where not tgisinternal
) everything";

#[tokio::test]
async fn the_first_revision_is_the_approved_schema() {
    let api = Api::start().await;
    let scope = Scope::of(&api.database_url);
    scope.alembic(&["downgrade", "6640484e5703"]).unwrap();
    let columns: String = api
        .ask(
            "select string_agg(concat_ws(' ', table_name, column_name, udt_name, character_maximum_length, is_nullable,
                nullif(column_default, '')), E'\\n' order by table_name, ordinal_position)
             from information_schema.columns where table_schema = 'public' and table_name <> 'alembic_version'",
        )
        .await;
    assert_eq!(
        columns,
        "club id int4 NO nextval('club_id_seq'::regclass)
club name varchar 128 YES
club store_sku int4 YES
club_status id int4 NO nextval('club_status_id_seq'::regclass)
club_status name varchar 128 YES
club_status_history id varchar 36 NO
club_status_history club_id int4 YES
club_status_history club_status_id int4 YES
club_status_history effect_date timestamp YES
club_status_history create_date timestamp YES
club_status_history details varchar 256 YES
status id int4 NO nextval('status_id_seq'::regclass)
status name varchar 128 YES
subscription id varchar 36 NO
subscription club_id int4 YES
subscription customer_store_id varchar 36 YES
subscription create_date timestamp YES
subscription_status_history id varchar 36 NO
subscription_status_history subscription_id varchar 36 YES
subscription_status_history status_id int4 YES
subscription_status_history effect_date timestamp YES
subscription_status_history create_date timestamp YES
subscription_status_history details varchar 256 YES"
    );
    let constraints: String = api
        .ask(
            "select string_agg(conrelid::regclass || ' ' || pg_get_constraintdef(oid), E'\\n' order by conrelid::regclass::text, pg_get_constraintdef(oid))
             from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n' and conrelid <> 'alembic_version'::regclass",
        )
        .await;
    assert_eq!(
        constraints,
        "club PRIMARY KEY (id)
club_status PRIMARY KEY (id)
club_status_history FOREIGN KEY (club_id) REFERENCES club(id) ON DELETE RESTRICT
club_status_history FOREIGN KEY (club_status_id) REFERENCES club_status(id) ON DELETE RESTRICT
club_status_history PRIMARY KEY (id)
status PRIMARY KEY (id)
subscription FOREIGN KEY (club_id) REFERENCES club(id) ON DELETE RESTRICT
subscription PRIMARY KEY (id)
subscription_status_history FOREIGN KEY (status_id) REFERENCES status(id) ON DELETE RESTRICT
subscription_status_history FOREIGN KEY (subscription_id) REFERENCES subscription(id) ON DELETE RESTRICT
subscription_status_history PRIMARY KEY (id)"
    );
    let rows: String = api
        .ask(
            "select (select string_agg(id || ' ' || name, ', ' order by id) from club_status) || '; '
                || (select string_agg(id || ' ' || name, ', ' order by id) from status)",
        )
        .await;
    assert_eq!(rows, "1 ATIVO, 2 FECHADO, 3 INATIVO; 1 ATIVO, 2 CANCELADO, 3 PAUSADO");
}

#[tokio::test]
async fn a_database_of_the_first_revision_is_upgraded_in_place_and_everything_can_be_removed() {
    let api = Api::start().await;
    let scope = Scope::of(&api.database_url);
    let whole: String = api.ask(INVENTORY).await;
    scope.alembic(&["downgrade", "6640484e5703"]).unwrap();
    api.run(
        "insert into club values (7, 'earlier', 1); insert into subscription values ('s', 7, 'c');
         insert into club_status_history values ('h', 7, 1, '2020-01-01');
         insert into subscription_status_history values ('h', 's', 1, '2020-01-01')",
    )
    .await;

    scope.alembic(&["upgrade", "head"]).unwrap();
    assert_eq!(api.ask::<String>(INVENTORY).await, whole);
    assert_eq!(api.eligible().await, ["s"]);
    assert_eq!(api.charge("s", "o").await.status, 200);

    scope.alembic(&["downgrade", "base"]).unwrap();
    assert_eq!(api.ask::<String>(INVENTORY).await, "");
    scope.alembic(&["upgrade", "head"]).unwrap();
    assert_eq!(api.ask::<String>(INVENTORY).await, whole);
}

#[tokio::test]
async fn a_missing_or_wrong_key_of_the_configuration_is_one_line_that_names_it() {
    let database = json!({ "db_user": "u", "db_host": "/nowhere", "db_name": "d" });
    let without = |key: &str| {
        let mut database = database.clone();
        database.as_object_mut().unwrap().remove(key);
        json!({ "database": database })
    };
    let with = |key: &str, value: Value| {
        let mut database = database.clone();
        database[key] = value;
        json!({ "database": database })
    };
    let mut weak = with("sslrootcert", json!("system"));
    weak["database"]["sslmode"] = json!("require");
    for (config, named) in [
        (None, "copy model_config.json"),
        (Some(json!({})), "no `database`"),
        (Some(json!([])), "no `database`"),
        (Some(without("db_user")), "`database.db_user`"),
        (Some(without("db_host")), "`database.db_host`"),
        (Some(without("db_name")), "`database.db_name`"),
        (Some(with("db_port", json!("x"))), "`database.db_port`"),
        (Some(with("database_type", json!("mysql"))), "`database_type`"),
        (Some(with("sslmode", json!("on"))), "`database.sslmode`"),
        (Some(weak), "weak sslmode"),
        (Some(with("db_password", json!("arn:aws:ssm:r:1:parameter/x"))), "PGPASSWORD"),
        (Some(json!({ "database": database })), "does not answer"),
        (Some(with("sslmode", json!("verify-full"))), "does not answer"),
    ] {
        let scope = Scope::with(Path::new(ROOT), config.as_ref());
        let said = scope.alembic(&["upgrade", "head"]).unwrap_err();
        assert!(said.contains(named) && said.contains(&scope.name) && !said.contains("Traceback"), "{said}");
    }
}

/// The definition of everything of ours.
const DEFINITIONS: &str = "select coalesce(string_agg(definition, E'\\n' order by definition), '') from (
    select pg_get_functiondef(oid) as definition from pg_proc where pronamespace = 'public'::regnamespace
    union all select pg_get_viewdef(oid) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v'
    union all select indexdef from pg_indexes where schemaname = 'public'
    union all select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    union all select obj_description(oid, 'pg_proc') from pg_proc where pronamespace = 'public'::regnamespace
) everything";

#[tokio::test]
async fn each_revision_can_be_undone_and_repeated() {
    let api = Api::start().await;
    let scope = Scope::of(&api.database_url);
    let mut revisions = 0;
    loop {
        let upgraded: String = api.ask(DEFINITIONS).await;
        scope.alembic(&["downgrade", "-1"]).unwrap();
        let downgraded: String = api.ask(DEFINITIONS).await;
        scope.alembic(&["upgrade", "+1"]).unwrap();
        assert_eq!(api.ask::<String>(DEFINITIONS).await, upgraded);
        scope.alembic(&["downgrade", "-1"]).unwrap();
        assert_eq!(api.ask::<String>(DEFINITIONS).await, downgraded);
        revisions += 1;
        if api.ask::<String>("select coalesce(max(version_num), '') from alembic_version").await == "6640484e5703" {
            break;
        }
    }
    assert!(revisions > 1);
}

/// The check that holds the revisions in this folder to their release.
fn released(folder: &Path) -> Output {
    Command::new(env::var("PYTHON").unwrap()).arg("migrations/released.py").current_dir(folder).output().unwrap()
}

/// Changes this text in this file of the migrations.
fn edit(folder: &Path, file: &str, before: &str, after: &str) {
    let path = folder.join("migrations").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(before), "{file} has no {before}");
    fs::write(path, text.replace(before, after)).unwrap();
}

#[test]
fn a_released_revision_is_not_edited() {
    let lookup = "versions/61cb71b19e95_lookup.py";
    let edits = [
        ("sql/active_clubs.sql", "order by", "order  by", "Undo that, and write a new revision"),
        (lookup, "\"active_clubs\"", "\"clock\"", "sql/before_<revision>/"),
        (
            "released.json",
            "61cb71b19e95",
            "61cb71b19e96",
            "revision 61cb71b19e96 was released with 0.1.0 and is missing",
        ),
        ("../CHANGELOG.md", "\n## 0.1.0 - ", "\n## 9.0.0 - 2030-01-01\n\n## 0.1.0 - ", "make release-digests"),
    ];
    for (file, before, after, said) in edits {
        let folder = checkout("beer-club-", &["CHANGELOG.md"]);
        let as_it_is = released(folder.path());
        assert!(as_it_is.status.success(), "{}", printed(&as_it_is.stdout));
        edit(folder.path(), file, before, after);
        let edited = released(folder.path());
        let line = printed(&edited.stdout);
        assert!(!edited.status.success() && line.lines().count() == 1 && line.contains(said), "{line}");
    }
}

/// A revision after the last one, which replaces a function as migrations/README.md says: a later club comes first.
fn next_revision(folder: &Path) {
    let file = new_revision(folder, "Newest clubs first");
    let name = file.file_name().unwrap().to_str().unwrap();
    let old = format!("before_{}/active_clubs", name.split('_').next().unwrap());
    let sql = folder.join("migrations/sql");
    fs::create_dir(sql.join(&old).parent().unwrap()).unwrap();
    fs::copy(sql.join("active_clubs.sql"), sql.join(format!("{old}.sql"))).unwrap();
    edit(folder, "versions/61cb71b19e95_lookup.py", "\"active_clubs\"", &format!("\"{old}\""));
    edit(folder, "sql/active_clubs.sql", "order by club.id", "order by club.id desc");
    let path = format!("versions/{name}");
    edit(folder, &path, "import apply", "import replace");
    edit(folder, &path, "apply()", "replace(\"active_clubs\")");
    edit(folder, &path, "raise NotImplementedError", &format!("replace(\"{old}\")"));
}

#[tokio::test]
async fn a_database_of_the_release_is_upgraded_by_the_next_revision_and_downgraded() {
    const ROWS: &str = "select concat((select string_agg(s::text, ';' order by id) from subscription s),
        (select string_agg(h::text, ';' order by id) from subscription_status_history h),
        (select string_agg(c::text, ';' order by id) from club c))";
    let api = Api::start().await;
    let scope = Scope::of(&api.database_url);
    scope.alembic(&["upgrade", "head"]).unwrap();
    let subscription = api.subscription().await;
    api.club().await;
    assert_eq!(api.charge(&subscription, "o").await.status, 200);
    let (definitions, rows, attempts) =
        (api.ask::<String>(DEFINITIONS).await, api.ask::<String>(ROWS).await, api.attempts().await);
    let clubs = async || {
        let clubs = api.call(Call::get("/club")).await.body;
        clubs.as_array().unwrap().iter().map(|club| club["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(clubs().await, [1, 2]);

    let folder = checkout("beer-club-", &["CHANGELOG.md"]);
    next_revision(folder.path());
    let moved = released(folder.path());
    assert!(moved.status.success(), "{}", printed(&moved.stdout));
    let next = Scope::in_folder(folder.path(), &api.database_url);
    for (direction, order) in [("upgrade", [2, 1]), ("downgrade", [1, 2]), ("upgrade", [2, 1])] {
        next.alembic(&[direction, if direction == "upgrade" { "head" } else { "-1" }]).unwrap();
        assert_eq!(clubs().await, order);
        assert_eq!(api.ask::<String>(DEFINITIONS).await == definitions, direction == "downgrade");
        assert_eq!((api.ask::<String>(ROWS).await, api.attempts().await), (rows.clone(), attempts.clone()));
        let repeated = api.charge(&subscription, "o").await;
        assert_eq!((repeated.status, &repeated.body["already_charged"]), (200, &json!(true)));
    }
    assert_eq!(api.subscribe(2, "a new customer").await.status, 201);
}

fn postgres(program: &str) -> Command {
    Command::new(Path::new(&env::var("POSTGRES_PROGRAMS").unwrap()).join(program))
}

/// Runs this SQL as a script, until its first error.
#[track_caller]
fn psql(database_url: &Url, script: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    let mut psql = postgres("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", database_url.as_str(), "-f"]).arg(file.path());
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{}", printed(&output.stderr));
}

/// Everything in this database, as pg_dump writes it.
fn dump(database_url: &Url) -> String {
    let output = postgres("pg_dump").args(["-d", database_url.as_str()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // These lines have a random key.
    printed(&output.stdout).lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn psql_runs_the_sql_of_an_upgrade_which_is_made_without_a_database() {
    let folder = checkout("beer-club-", &[]);
    fs::write(
        folder.path().join("migrations/sql/difficult.sql"),
        "create function difficult() returns text language sql as $$ select ':a \\:b ::c 10:30 % %% %(x)s %s ;' $$;\n",
    )
    .unwrap();
    let revision = new_revision(folder.path(), "Difficult");
    let text = fs::read_to_string(&revision).unwrap().replace("apply()", "apply(\"difficult\")");
    fs::write(revision, text.replace("raise NotImplementedError", "pass")).unwrap();

    let migrated = empty_database("").await;
    let scope = Scope::in_folder(folder.path(), &migrated);
    scope.alembic(&["upgrade", "head"]).unwrap();
    assert_eq!(ask(&migrated, "select difficult()").await, ":a \\:b ::c 10:30 % %% %(x)s %s ;");

    let without = Scope::with(folder.path(), None);
    let sql = |arguments: &[&str]| -> Vec<u8> {
        let Output { status, stdout, stderr } = without.command(arguments).output().unwrap();
        assert!(status.success(), "{}", printed(&stderr));
        stdout
    };
    let by_psql = empty_database("").await;
    psql(&by_psql, &sql(&["upgrade", "head", "--sql"]));
    assert_eq!(dump(&by_psql), dump(&migrated));
    Scope::in_folder(folder.path(), &by_psql).alembic(&["upgrade", "head"]).unwrap();

    let all = ask(&migrated, INVENTORY).await;
    assert!(all.contains("difficult") && all.contains("subscription_status_history"));
    psql(&migrated, b"drop function difficult()");
    psql(&migrated, &sql(&["downgrade", "head:base", "--sql"]));
    assert_eq!(ask(&migrated, INVENTORY).await, "");
}

#[tokio::test]
async fn of_upgrades_at_once_one_works_and_the_others_find_nothing_to_do() {
    let folder = checkout("beer-club-", &[]);
    // It waits for every statement that began before it.
    let concurrently = new_revision(folder.path(), "Concurrently");
    let text = fs::read_to_string(&concurrently).unwrap();
    let body = "with op.get_context().autocommit_block():
        op.execute(\"create index concurrently concurrent on club (name)\")";
    let text = text.replace("from sql_files import apply", "from alembic import op").replace("apply()", body);
    fs::write(concurrently, text).unwrap();
    let revisions = fs::read_dir(folder.path().join("migrations/versions")).unwrap();
    let revisions = revisions.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|it| it == "py"));

    let database_url = empty_database("").await;
    let scope = Scope::in_folder(folder.path(), &database_url);
    let upgrades: Vec<_> = (0..3).map(|_| scope.command(&["upgrade", "head"]).spawn().unwrap()).collect();
    let mut ran = Vec::new();
    for upgrade in upgrades {
        let output = upgrade.wait_with_output().unwrap();
        let said = printed(&output.stderr);
        assert!(output.status.success(), "{said}");
        ran.push(said.matches("Running upgrade").count());
    }
    ran.sort_unstable();
    assert_eq!(ran, [0, 0, revisions.count()]);
}

#[tokio::test]
async fn the_project_can_be_in_any_folder() {
    let folder = checkout("100% %(here)s a:b 'c' \"d\" ~é;#$x ", &[]);
    let api = Api::start().await;
    let name = database::name(&api.database_url);

    // By a socket directory, and by a certificate, in that folder.
    let socket = folder.path().join("so:cket");
    std::os::unix::fs::symlink(database::socket(&api.database_url).parent().unwrap(), &socket).unwrap();
    let mut config = configuration(&api.database_url);
    config["database"]["db_host"] = json!(socket);
    let by_socket = Scope::with(folder.path(), Some(&config));
    let (port, certificate) = tls_before(&api.database_url).await;
    fs::copy(certificate.path(), folder.path().join("c%:é.pem")).unwrap();
    let by_tls = Scope::with(
        folder.path(),
        Some(&json!({ "database": {
            "db_user": "club", "db_host": "localhost", "db_port": port, "db_name": name,
            "sslmode": "verify-full", "sslrootcert": "c%:é.pem"
        } })),
    );
    for scope in [by_socket, by_tls] {
        for arguments in [["downgrade", "base"], ["upgrade", "head"]] {
            let mut command = scope.command(&arguments);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            assert!(output.status.success(), "{}", printed(&output.stderr));
        }
    }
}

#[tokio::test]
async fn a_schema_whose_name_needs_quotes_is_migrated() {
    const RELATIONS: &str = "select count(*)::text from pg_class
        where relnamespace = to_regnamespace('\"Beer \"\"Club\"\"\"') and relname !~ '^alembic'";
    let mut api = Api::start().await;
    api.run("create schema \"Beer \"\"Club\"\"\"").await;
    api.set_default("search_path", "Beer \"Club\"").await;
    // Its sessions begin after that.
    let database_url = api.database_url.clone();
    api.move_to(&database_url).await;
    let login = role(&api, "login").await;
    let mut config = configuration(&database_url);
    config["database"]["functions_user"] = json!(login);
    let scope = Scope::with(Path::new(ROOT), Some(&config));
    for revision in ["head", "7ae60d79b60a", "head"] {
        scope.alembic(&[if revision == "head" { "upgrade" } else { "downgrade" }, revision]).unwrap();
    }

    api.run(&format!("grant usage on schema \"Beer \"\"Club\"\"\" to {login}")).await;
    let settings = scope.file().to_str().unwrap().trim_end_matches("_config.json").to_owned();
    api.set(&[("DATABASE_URL", ""), ("SCOPE", &settings)]).await;
    let subscription = api.subscription().await;
    assert_eq!(api.charge(&subscription, "o").await.status, 200);
    assert_eq!(api.call(Call::get("/charge")).await.body["counts"]["charged"], 1);
    assert_eq!(api.ask::<i64>("select count(*) from public.subscription").await, 0);

    scope.alembic(&["downgrade", "base"]).unwrap();
    assert_eq!(ask(&database_url, RELATIONS).await, "0");
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused() {
    let database_url = empty_database("encoding 'LATIN1' locale 'C'").await;
    let scope = Scope::of(&database_url);
    let said = Scope::refusal(scope.command(&["upgrade", "head"]));
    assert!(said.contains("LATIN1") && said.contains(&scope.name), "{said}");
    assert_eq!(ask(&database_url, "select count(*)::text from pg_tables where schemaname = 'public'").await, "0");
}

#[tokio::test]
async fn a_billing_timezone_that_the_server_does_not_know_is_refused() {
    let database_url = empty_database("").await;
    let of = |timezone: Value| {
        let mut config = configuration(&database_url);
        config["billing_timezone"] = timezone;
        Scope::with(Path::new(ROOT), Some(&config))
    };
    for wrong in [json!("America/Atlantis"), json!(""), json!(3)] {
        let said = Scope::refusal(of(wrong.clone()).command(&["upgrade", "head"]));
        assert!(said.contains("billing_timezone") && said.contains(wrong.as_str().unwrap_or_default()), "{said}");
    }
    let scope = of(json!("America/Sao_Paulo"));
    let mut command = scope.command(&["upgrade", "head"]);
    command.env("BILLING_TIMEZONE", "America/Atlantis");
    let said = Scope::refusal(command);
    assert!(said.contains("America/Atlantis"), "{said}");
    assert_eq!(ask(&database_url, "select count(*)::text from pg_tables where schemaname = 'public'").await, "0");

    scope.alembic(&["upgrade", "head"]).unwrap();
    let said = Scope::refusal(of(json!("America/Atlantis")).command(&["upgrade", "head"]));
    assert!(said.contains("America/Atlantis"), "{said}");
}

#[test]
fn a_new_revision_is_formatted() {
    let folder = checkout("beer-club-", &[]);
    let long = "A message that takes more than a line because it says everything twice. ".repeat(3);
    for message in ["Adds something", r#"Says "this" and 'that' \ and \d, "all""#, &long] {
        new_revision(folder.path(), message);
    }
    for check in [["check"].as_slice(), &["format", "--check"]] {
        let mut ruff = Command::new(env::var("PYTHON").unwrap());
        ruff.args(["-m", "ruff"]).args(check).arg("--config").arg(Path::new(ROOT).join("pyproject.toml"));
        let output = ruff.arg("migrations/versions").current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", printed(&output.stdout));
    }
}

#[tokio::test]
async fn make_run_refuses_a_database_that_was_made_from_other_sources() {
    let folder = checkout("beer-club-", &["dev", "functions.yml", "model_config.json"]);
    let api = Api::start().await;
    let mut config = configuration(&api.database_url);
    config["ecommerce"] = json!({});
    fs::write(folder.path().join("local_config.json"), config.to_string()).unwrap();
    let edited = folder.path().join("migrations/sql/subscribe.sql");
    let text = fs::read_to_string(&edited).unwrap();
    fs::write(&edited, text + "\ncomment on function utc_now() is 'edited';\n").unwrap();

    let mut make_run = Command::new(env::var("PYTHON").unwrap());
    make_run.arg("dev/run.py").current_dir(folder.path()).env("PORT", free_ports().to_string());
    let output = make_run.output().unwrap();
    let said = printed(&output.stderr);
    assert!(!output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.contains("from other sources; name an empty one in local_config.json"), "{said}");
}

/// The first of four in a row.
fn free_ports() -> u16 {
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (20000..30000).step_by(4).find(|first| (*first..first + 4).all(free)).unwrap()
}
