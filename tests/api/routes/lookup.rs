//! `GET /subscription/{id}`, `GET /subscription?customer_id=…` and `GET /club`.

use harness::{Answer, Api, Call, gateway::GATEWAYS, pause};
use serde_json::{Value, json};
use url::Url;

async fn read(api: &Api, subscription: &str) -> Answer {
    let answer = api.call(Call::get(format!("/subscription/{subscription}"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

fn of_customer(customer: &str) -> Call {
    Call::get("/subscription").query("customer_id", customer)
}

#[tokio::test]
async fn a_subscription_is_shown_with_its_status_and_the_next_one() {
    let api = Api::start().await;
    let club = api.club().await;
    let subscribed = api.subscribe(club, "c").await;
    let id = subscribed.text("id");

    let answer = read(&api, id).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let create_date = subscribed.text("create_date");
    let mut expected = json!({
        "id": id, "club_id": club, "customer_id": "c", "create_date": create_date,
        "status_id": 1, "effect_date": create_date, "next": null
    });
    assert_eq!(answer.body, expected);

    let paused = api.status(id, pause(30)).await;
    expected["status_id"] = json!(3);
    expected["effect_date"] = paused.body["effect_date"].clone();
    expected["next"] = json!({ "status_id": 1, "effect_date": paused.body["automatic_return"] });
    assert_eq!(read(&api, id).await.body, expected, "paused until");

    api.status(id, json!({ "status_id": 3, "effect_date": "2998-12-31" })).await;
    api.status(id, json!({ "status_id": 2, "effect_date": "2999-12-31" })).await;
    assert_eq!(read(&api, id).await.body, expected, "what comes after the next status is not shown");

    let cancelled = api.status(id, json!({ "status_id": 2 })).await;
    expected["status_id"] = json!(2);
    expected["effect_date"] = cancelled.body["effect_date"].clone();
    expected["next"] = json!({ "status_id": 3, "effect_date": "2998-12-31T00:00:00Z" });
    assert_eq!(read(&api, id).await.body, expected, "the pause does not return any more");
}

#[tokio::test]
async fn subscribing_leads_to_the_subscription() {
    let api = Api::start().await;
    for gateway in GATEWAYS {
        for slash in ["", "/"] {
            let club = api.club().await;
            let path = format!("/club/{club}/subscribe{slash}");
            let answer = api.call(Call::post(&path, json!({ "customer_id": "c" })).via(gateway)).await;
            let url = Url::parse(&format!("https://api.example/dev{path}")).unwrap();
            let location = url.join(&answer.headers["location"]).unwrap();
            assert_eq!(location.path(), format!("/dev/subscription/{}", answer.text("id")), "{gateway:?} {path}");
        }
    }
}

#[tokio::test]
async fn rows_written_by_hand_are_shown_too() {
    let api = Api::start().await;
    api.run(
        "insert into subscription (id, create_date) values ('bare', null), ('infinite', 'infinity');
         insert into subscription_status_history (id, subscription_id, status_id, effect_date, details) values
            ('1', 'infinite', 3, '-infinity', 'an operator''s note'), ('2', 'infinite', 1, '12000-01-01', null),
            ('3', 'infinite', 1, 'infinity', null)",
    )
    .await;
    let nothing = json!({
        "id": "bare", "club_id": null, "customer_id": null, "create_date": null, "status_id": null, "effect_date": null,
        "next": null
    });
    assert_eq!(read(&api, "bare").await.body, nothing);
    let infinite = read(&api, "infinite").await.body;
    assert_eq!((&infinite["create_date"], &infinite["effect_date"]), (&json!(null), &json!(null)));
    assert_eq!((&infinite["status_id"], &infinite["next"]), (&json!(3), &json!(null)), "nobody waits until 12000");

    api.run("insert into subscription_status_history (id, subscription_id, effect_date) values ('4', 'infinite', '2999-01-01')")
        .await;
    let next = json!({ "status_id": null, "effect_date": "2999-01-01T00:00:00Z" });
    assert_eq!(read(&api, "infinite").await.body["next"], next, "a status that is not known");
}

#[tokio::test]
async fn a_subscription_that_begins_tomorrow_has_no_status_yet() {
    let api = Api::start().await;
    api.run(
        "insert into subscription (id) values ('s');
         insert into subscription_status_history (id, subscription_id, status_id, effect_date) values ('1', 's', 1, '2999-01-01')",
    )
    .await;
    let found = read(&api, "s").await.body;
    assert_eq!((&found["status_id"], &found["effect_date"]), (&json!(null), &json!(null)));
    assert_eq!(found["next"], json!({ "status_id": 1, "effect_date": "2999-01-01T00:00:00Z" }));
}

#[tokio::test]
async fn an_unknown_subscription_is_not_found() {
    let api = Api::start().await;
    api.call(Call::get("/subscription/nobody")).await.refuses(404, "subscription_not_found");
}

#[tokio::test]
async fn a_customer_has_a_list_by_create_date_and_then_id() {
    let api = Api::start().await;
    let (club, other) = (api.club().await, api.club().await);
    assert_eq!(api.call(of_customer("c")).await.body, json!([]));

    let subscribed = api.subscribe(club, "c").await;
    api.subscribe(other, "d").await;
    api.run(&format!(
        "insert into subscription values ('b', {other}, 'c', '2020-01-01'), ('B', {other}, 'c', '2020-01-01'),
            ('a', {other}, 'c', null), ('é', {other}, 'c', '2019-01-01')"
    ))
    .await;
    let answer = api.call(of_customer("c")).await;
    assert_eq!((answer.status, answer.headers["cache-control"].as_str()), (200, "no-store"));
    let ids: Vec<_> = answer.body.as_array().unwrap().iter().map(|found| found["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "é", "B", "b", subscribed.text("id")]);
    assert_eq!(answer.body[4], read(&api, subscribed.text("id")).await.body);
}

#[tokio::test]
async fn a_list_is_of_one_customer() {
    let api = Api::start().await;
    let missing = api.call(Call::get("/subscription")).await;
    assert_eq!(missing.refuses(400, "invalid_request").text("detail"), "customer_id is missing");
    for customer in ["", "a\0b", "a\nb", &"x".repeat(37)] {
        let answer = api.call(of_customer(customer)).await;
        assert!(answer.refuses(400, "invalid_request").text("detail").contains("customer_id"), "{customer:?}");
    }
    for customer in ["a/b", "%2F", "'; drop table club; --", "+", "&", "🍺"] {
        let club = api.club().await;
        let subscribed = api.subscribe(club, customer).await;
        for gateway in GATEWAYS {
            let answer = api.call(of_customer(customer).via(gateway)).await;
            assert_eq!(answer.body[0]["id"], subscribed.body["id"], "{gateway:?} {customer}");
        }
    }
}

#[tokio::test]
async fn the_active_clubs_are_listed_by_their_ids() {
    let api = Api::start().await;
    let clubs = Call::get("/club");
    assert_eq!(api.call(clubs.clone()).await.body, json!([]));

    api.run("insert into club (id, name, store_sku) values (12, 'Bock', 7), (9, null, null), (10, 'Ale', 8)").await;
    for club in [12, 9, 10] {
        api.club_status(club, 1).await;
    }
    let answer = api.call(clubs.clone()).await;
    assert_eq!((answer.status, answer.headers["cache-control"].as_str()), (200, "max-age=60"));
    let all = [
        json!({ "id": 9, "name": null, "store_sku": null }),
        json!({ "id": 10, "name": "Ale", "store_sku": 8 }),
        json!({ "id": 12, "name": "Bock", "store_sku": 7 }),
    ];
    assert_eq!(answer.body, json!(all));

    api.club_status(10, 2).await;
    api.club_status(9, 3).await;
    api.run(
        "insert into club (id) values (1), (2);
         insert into club_status_history (id, club_id, club_status_id, effect_date) values ('later', 2, 1, '2999-01-01')",
    )
    .await;
    assert_eq!(api.call(clubs.clone()).await.body, json!([all[2]]), "closed, inactive, without a status, later");
    api.set_clock("'2999-01-01Z'::timestamptz").await;
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|club| club["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&api.call(clubs).await.body), [2, 12]);
}

#[tokio::test]
async fn ids_that_look_like_routes_are_ids() {
    let api = Api::start().await;
    for id in ["club", "subscription", "status", "charge"] {
        api.run(&format!("insert into subscription values ('{id}')")).await;
        for gateway in GATEWAYS {
            for slash in ["", "/"] {
                let answer = api.call(Call::get(format!("/subscription/{id}{slash}")).via(gateway)).await;
                assert_eq!(answer.text("id"), id, "{gateway:?} {answer:?}");
            }
        }
    }
}
