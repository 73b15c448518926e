//! The migrations, run by Alembic as operators run it.

use std::{env, fs, path::PathBuf, process::Command};

use api_tests::{Api, database};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A scope with a configuration file, which is removed with it.
struct Scope {
    name: String,
    file: PathBuf,
}

impl Scope {
    fn with(config: Option<&Value>) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let file = PathBuf::from(ROOT).join(format!("{name}_config.json"));
        if let Some(config) = config {
            fs::write(&file, config.to_string()).unwrap();
        }
        Self { name, file }
    }

    fn of(database_url: &Url) -> Self {
        let mut database = database::configuration(database_url);
        database["db_port"] = json!(5432);
        Self::with(Some(&json!({ "database": database })))
    }

    /// The error output, if it fails.
    fn alembic(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new(env::var("PYTHON").unwrap())
            .args(["-m", "alembic", "-x", &format!("scope={}", self.name)])
            .args(arguments)
            .current_dir(ROOT)
            .output()
            .unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
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
        (Some(with("db_password", json!("arn:aws:ssm:r:1:parameter/x"))), "PGPASSWORD"),
        (Some(json!({ "database": database })), "does not answer"),
    ] {
        let scope = Scope::with(config.as_ref());
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
