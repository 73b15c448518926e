//! Copies by pg_dump and pg_restore, and by logical replication.

use super::*;

#[tokio::test]
async fn a_whole_copy_counts_as_its_original() {
    let mut api = Api::start().await;
    fill(&api).await;
    let mut shell = Shell::new();
    shell.set("OLD", api.database_url.as_str());
    shell.run(
        "pg_dump --dbname=\"$OLD\" --file=plain
        pg_dump --dbname=\"$OLD\" --format=custom --file=custom
        pg_dump --dbname=\"$OLD\" --format=directory --jobs=2 --file=directory",
    );
    let clean = format!("template {TEMPLATE}");
    for (options, restore) in [
        ("", "psql --quiet --set=ON_ERROR_STOP=1 --dbname=\"$NEW\" --file=plain"),
        ("", "pg_restore --exit-on-error --dbname=\"$NEW\" custom"),
        ("", "pg_restore --exit-on-error --dbname=\"$NEW\" --jobs=2 directory"),
        (&*clean, "pg_restore --exit-on-error --dbname=\"$NEW\" --clean custom"),
    ] {
        let copy = create_database(options).await;
        shell.set("NEW", copy.as_str());
        shell.run(restore);
        api.move_to(&copy).await;
        counts_as_before(&api).await;
    }
}

/// Empties the tables that Alembic has made, as people do before they restore the data alone.
#[derive(Clone, Copy, Debug)]
enum Empty {
    Truncate,
    TruncateOneByOne,
    TruncateOneByOneBackwards,
    Delete,
}

impl Empty {
    async fn run(self, api: &Api) {
        let tables: Vec<String> =
            sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public' order by tablename")
                .fetch_all(&api.sql)
                .await
                .unwrap();
        let truncate = |table: &String| format!("truncate {table} cascade");
        match self {
            Self::Truncate => api.run(&format!("truncate {}", tables.join(", "))).await,
            Self::TruncateOneByOne => api.run(&tables.iter().map(truncate).collect::<Vec<_>>().join("; ")).await,
            Self::TruncateOneByOneBackwards => {
                api.run(&tables.iter().rev().map(truncate).collect::<Vec<_>>().join("; ")).await
            }
            Self::Delete => {
                // Rows that refer to others go first.
                api.run(&format!("{DELETE}; delete from club_status_history; delete from club")).await;
                api.run(&tables.iter().map(|table| format!("delete from {table}; ")).collect::<String>()).await;
            }
        }
    }
}

#[tokio::test]
async fn a_copy_of_the_data_alone_counts_as_its_original() {
    use Empty::{Delete, Truncate, TruncateOneByOne, TruncateOneByOneBackwards};
    let mut api = Api::start().await;
    fill(&api).await;
    let mut shell = Shell::new();
    shell.set("OLD", api.database_url.as_str());
    shell.run("pg_dump --dbname=\"$OLD\" --format=custom --file=dump");
    for (emptied, options) in [
        (&[Truncate][..], ""),
        (&[TruncateOneByOne], ""),
        (&[Delete], ""),
        (&[Truncate], "--disable-triggers"),
        // The data arrive more than once.
        (&[TruncateOneByOne, TruncateOneByOneBackwards, Truncate, Delete, Delete], ""),
    ] {
        let copy = create_database(&format!("template {TEMPLATE}")).await;
        shell.set("NEW", copy.as_str());
        api.move_to(&copy).await;
        for empty in emptied {
            empty.run(&api).await;
            shell.run(&format!("pg_restore --exit-on-error --dbname=\"$NEW\" --data-only {options} dump"));
        }
        counts_as_before(&api).await;
    }
}

#[tokio::test]
async fn emptying_the_new_tables_orphans_nothing_that_arrives_later() {
    let mut api = Api::start().await;
    api.club().await;
    subscribe(&api, &["charged"]).await;
    assert!(charges(&api, "charged", "1").await);
    let mut shell = Shell::new();
    shell.set("OLD", api.database_url.as_str());
    shell.run("pg_dump --dbname=\"$OLD\" --format=custom --file=dump");
    let copy = create_database(&format!("template {TEMPLATE}")).await;
    shell.set("NEW", copy.as_str());
    api.move_to(&copy).await;
    api.run("truncate alembic_version; truncate status, club_status, club cascade").await;
    shell.run("pg_restore --exit-on-error --dbname=\"$NEW\" --data-only dump");
    assert!(!charges(&api, "charged", "another").await);
}

#[tokio::test]
async fn an_owner_who_is_no_superuser_copies_as_well() {
    let mut api = Api::start().await;
    fill(&api).await;
    let owner = role(&api, "login").await;
    let mut copy = create_database(&format!("owner {owner}")).await;
    copy.set_username(&owner).unwrap();
    let mut shell = Shell::new();
    shell.set("OLD", api.database_url.as_str());
    shell.set("NEW", copy.as_str());
    shell.run("pg_dump --dbname=\"$OLD\" --format=custom --file=dump");
    shell.run("pg_restore --exit-on-error --dbname=\"$NEW\" --schema-only --no-owner --no-acl dump");
    api.move_to(&copy).await;
    Empty::Truncate.run(&api).await;
    shell.run("pg_restore --exit-on-error --dbname=\"$NEW\" --data-only dump");
    counts_as_before(&api).await;
}

#[tokio::test]
async fn a_database_moves_to_a_new_server() {
    let mut api = Api::start().await;
    let mut shell = Shell::new();
    shell.initialize("old", "wal_level = logical");
    shell.start("old");
    let old = with_our_schema(&mut shell, "old", &api);
    shell.set("FUNCTIONS", role(&api, "").await);
    shell.set("OPERATORS", role(&api, "").await);
    api.move_to(&old).await;
    fill(&api).await;

    // By logical replication, while the old server goes on.
    let replica = create_database("").await;
    shell.set("NEW", replica.as_str());
    let [start, switch] = commands("Moving to a new server").try_into().unwrap();
    shell.run(&start);
    subscribe(&api, &["late", "late-orphaned"]).await;
    assert!(charges(&api, "late", "7").await);
    assert!(charges(&api, "late-orphaned", "8").await);
    api.run("delete from subscription_status_history where subscription_id = 'late-orphaned'").await;
    api.run("delete from subscription where id = 'late-orphaned'").await;
    subscribe(&api, &["late-orphaned"]).await;
    // Nothing that we do on a published table needs a key that it does not have.
    api.run("delete from charge_attempt where false").await;
    closed(&shell, &api).await;
    shell.run(&switch);
    api.move_to(&replica).await;
    let anybody = role(&api, "").await;
    assert!(rights::allowed(&api, &anybody).await.is_empty());
    api.club().await;
    assert!(!charges(&api, "late", "another").await);
    assert!(charges(&api, "late-orphaned", "8-again").await);
    counts_as_before(&api).await;

    // By a dump of the same server.
    let restored = create_database("").await;
    shell.set("NEW", restored.as_str());
    let [dump, restore] = commands("Dump and restore").try_into().unwrap();
    shell.run(&dump);
    shell.run(&restore);
    api.move_to(&restored).await;
    let anybody = role(&api, "").await;
    assert!(rights::allowed(&api, &anybody).await.is_empty());
    assert!(!charges(&api, "late", "another").await);
    assert!(charges(&api, "late-orphaned", "8-again").await);
    counts_as_before(&api).await;
}
