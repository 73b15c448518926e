//! A newer PostgreSQL.

use harness::postgres::programs;

use super::*;

async fn version(api: &Api) -> i32 {
    api.ask("select current_setting('server_version_num')::integer / 10000").await
}

#[tokio::test]
async fn a_database_goes_to_a_newer_version() {
    let mut api = Api::start().await;
    let mut shell = Shell::new();
    shell.programs = programs("OLD_PROGRAMS");
    shell.initialize("old", "");
    shell.start("old");
    shell.programs = programs("NEW_PROGRAMS");
    shell.initialize("new", "");
    let old = with_our_schema(&mut shell, "old", &api);
    api.move_to(&old).await;
    let old_version = version(&api).await;
    fill(&api).await;
    for (variable, value) in [
        ("PGUSER", "club".to_owned()),
        ("OLD_DATA", shell.path("old")),
        ("NEW_DATA", shell.path("new")),
        ("FUNCTIONS", "functions".to_owned()),
        ("OPERATORS", "operators".to_owned()),
    ] {
        shell.set(variable, value);
    }
    shell.run("psql \"$OLD\" -c 'create role functions' -c 'create role operators'");
    let [dump, restore] = commands("Dump and restore").try_into().unwrap();
    shell.run(&dump);
    shell.run("pg_ctl stop --pgdata=old");

    // In place.
    let [upgrade, rebuild] = commands("Upgrade").try_into().unwrap();
    let upgraded = shell.url("new", "beer_club");
    shell.set("NEW", upgraded.as_str());
    shell.run(&upgrade);
    shell.run(&rebuild);
    api.move_to(&upgraded).await;
    api.charge("open", "6").await.refuses(503, "database_unavailable");
    let [open] = commands("Open").try_into().unwrap();
    shell.run(&open);
    let depend_on_a_collation: Vec<String> = sqlx::query_scalar(
        "select indexrelid::regclass::text
        from pg_index join pg_class on pg_class.oid = indexrelid join pg_collation on pg_collation.oid = any (indcollation)
        where relnamespace = 'public'::regnamespace and collname <> 'C'
        group by 1 order by 1",
    )
    .fetch_all(&api.sql)
    .await
    .unwrap();
    let mut rebuilt: Vec<_> =
        rebuild.lines().filter_map(|line| line.strip_prefix("reindex index ")?.strip_suffix(';')).collect();
    rebuilt.sort_unstable();
    assert_eq!(rebuilt, depend_on_a_collation, "the indexes that docs/recovery.md rebuilds after an upgrade");
    assert!(version(&api).await > old_version);
    counts_as_before(&api).await;

    // By a dump.
    shell.run("psql \"$NEW\" -c 'create database dumped'");
    let restored = shell.url("new", "dumped");
    shell.set("NEW", restored.as_str());
    shell.run(&restore);
    api.move_to(&restored).await;
    counts_as_before(&api).await;
}
