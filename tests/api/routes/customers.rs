//! Each customer acts for themselves alone, where the gateway authenticates customers.

use std::{sync::LazyLock, time::Duration};

use futures_util::future::join_all;
use harness::{
    Answer, Api, Call, Environment,
    gateway::{AUTHORIZERS, Authorizer, GATEWAYS},
    routes::{Route, routes},
};
use serde_json::{Value, json};

const TIME: Duration = Duration::from_secs(29);

async fn closed() -> Api {
    Api::with(&[("CUSTOMER_CLAIM", "customer")]).await
}

/// A call as this customer.
fn of(customer: &str, call: Call, authorizer: Authorizer) -> Call {
    call.authorized(authorizer, json!({ "customer": customer, "sub": "somebody else" }))
}

fn read(subscription: &str) -> Call {
    Call::get(format!("/subscription/{subscription}"))
}

fn charges(subscription: &str) -> Call {
    Call::get(format!("/subscription/{subscription}/charge"))
}

fn cancel(subscription: &str) -> Call {
    Call::post(format!("/subscription/{subscription}/status"), json!({ "status_id": 2 }))
}

/// The routes that a page calls, for its customer.
fn front_end() -> impl Iterator<Item = &'static Route> {
    routes().iter().filter(|route| route.has_cors)
}

/// A call of this route for `c`, if the subscription is theirs.
fn call_of(route: &Route, club: i32, subscription: &str) -> Call {
    match (route.method.as_str(), route.path) {
        ("POST", "/club/{id}/subscribe") => Call::subscribe(club, "c"),
        ("POST", "/subscription/{id}/status") => cancel(subscription),
        ("GET", "/subscription/{id}") => read(subscription),
        ("GET", "/subscription/{id}/charge") => charges(subscription),
        ("GET", "/subscription") => Call::get("/subscription"),
        ("GET", "/club") => Call::get("/club"),
        (method, path) => {
            panic!("functions.yml lets a page call {method} {path}: add it to tests/api/routes/customers.rs")
        }
    }
}

/// The document's example of a problem, for this answer's invocation.
fn shown(example: &str, answer: &Answer) -> Value {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_saphyr::from_str(include_str!("../../../openapi.yaml")).unwrap());
    let mut shown = DOCUMENT["components"]["examples"][example]["value"].clone();
    shown["instance"] = answer.body["instance"].clone();
    shown
}

/// A subscription of this customer; its id.
async fn subscription(api: &Api, club: i32, customer: &str) -> String {
    let answer = api.call(of(customer, Call::subscribe(club, customer), Authorizer::UserPool)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.text("id").to_owned()
}

/// Every row that a call could write.
async fn rows(api: &Api) -> String {
    api.ask(
        "select concat((select string_agg(s::text, ';' order by id) from subscription s), '|',
            (select string_agg(h::text, ';' order by id) from subscription_status_history h))",
    )
    .await
}

/// The function's answer as it is, but for the invocation's id.
async fn raw(environment: &Environment, call: Call) -> String {
    let payload = environment.invoke_raw(call.event(), TIME).await.unwrap();
    let body: Value = serde_json::from_str(payload["body"].as_str().unwrap()).unwrap();
    payload.to_string().replace(body["instance"].as_str().unwrap(), "")
}

#[tokio::test]
async fn a_customer_sees_and_changes_own_subscriptions() {
    let api = closed().await;
    for authorizer in AUTHORIZERS {
        let club = api.club().await;
        let customer = format!("{authorizer:?}");
        let other = subscription(&api, club, &format!("not {customer}")).await;

        let subscribed = api.call(of(&customer, Call::subscribe(club, &customer), authorizer)).await;
        assert_eq!(subscribed.status, 201, "{subscribed:?}");
        let id = subscribed.text("id");
        let again = api.call(of(&customer, Call::subscribe(club, &customer), authorizer)).await;
        let mut example = shown("own_subscription", &again);
        example["subscription_id"] = json!(id);
        assert_eq!(again.refuses(409, "already_subscribed").body, example);

        assert_eq!(api.call(of(&customer, cancel(id), authorizer)).await.status, 200);
        let found = api.call(of(&customer, read(id), authorizer)).await;
        assert_eq!((found.status, &found.body["status_id"]), (200, &json!(2)));
        for list in [Call::get("/subscription"), Call::get("/subscription").query("customer_id", &customer)] {
            assert_eq!(api.call(of(&customer, list, authorizer)).await.body, json!([found.body]));
        }
        assert_eq!(api.call(of("nobody", Call::get("/subscription"), authorizer)).await.body, json!([]));
        assert_eq!(api.call(of("nobody", Call::get("/club"), authorizer)).await.status, 200);
        assert_eq!(api.call(of(&customer, charges(id), authorizer)).await.body, json!([]));
        api.call(of(&customer, read(&other), authorizer)).await.refuses(404, "subscription_not_found");
    }
}

#[tokio::test]
async fn the_operators_read_a_month_without_a_claim() {
    let api = closed().await;
    for gateway in GATEWAYS {
        assert_eq!(api.call(Call::get("/charge").via(gateway)).await.body["charges"], json!([]), "{gateway:?}");
    }
}

#[tokio::test]
async fn anothers_subscription_is_answered_like_an_unknown_one_and_stays_as_it_is() {
    let api = closed().await;
    let club = api.club().await;
    let other = subscription(&api, club, "other").await;
    api.run("insert into subscription (id, club_id) values ('of nobody', 1)").await;
    let before = rows(&api).await;
    for route in front_end().filter(|route| route.path.starts_with("/subscription/{id}")) {
        let environment = api.environment(route.function).await;
        for authorizer in AUTHORIZERS {
            let call = |id: &str| of("c", call_of(route, club, id), authorizer);
            for id in [other.as_str(), "of%20nobody"] {
                environment.call(&call(id)).await.refuses(404, "subscription_not_found");
                assert_eq!(raw(&environment, call(id)).await, raw(&environment, call("unknown")).await);
            }
        }
    }
    assert_eq!(rows(&api).await, before);
}

#[tokio::test]
async fn nobody_acts_for_another_customer() {
    let api = closed().await;
    let club = api.club().await;
    subscription(&api, club, "other").await;
    let before = rows(&api).await;
    for authorizer in AUTHORIZERS {
        for customer in ["other", "C", "c ", "somebody else"] {
            for call in [
                Call::subscribe(club, customer),
                Call::subscribe(club + 99, customer),
                Call::get("/subscription").query("customer_id", customer),
            ] {
                let answer = api.call(of("c", call, authorizer)).await;
                assert_eq!(answer.refuses(403, "customer_mismatch").body, shown("customer_mismatch", &answer));
            }
        }
    }
    assert_eq!(rows(&api).await, before);
}

#[tokio::test]
async fn a_call_without_a_claim_is_nobodys() {
    let api = closed().await;
    let club = api.club().await;
    let id = subscription(&api, club, "c").await;
    let before = rows(&api).await;
    let calls = || {
        let named = Call::get("/subscription").query("customer_id", "c");
        front_end().map(|route| call_of(route, club, &id)).chain([named])
    };
    for gateway in GATEWAYS {
        for call in calls() {
            api.call(call.via(gateway)).await.refuses(401, "unauthenticated");
        }
    }
    for authorizer in AUTHORIZERS {
        let mut claims = vec![json!({}), json!({ "sub": "c" })];
        let not_ids = [json!(""), json!("x".repeat(37)), json!("a\nb")];
        // An HTTP API makes every claim of a JWT a string.
        let not_texts = [json!(7), json!(true), json!(null), json!(["c"]), json!({ "customer": "c" })];
        let values = not_ids.into_iter().chain(not_texts.into_iter().filter(|_| authorizer != Authorizer::Jwt));
        claims.extend(values.map(|claim| json!({ "customer": claim })));
        for claims in claims {
            for call in calls() {
                let answer = api.call(call.authorized(authorizer, claims.clone())).await;
                assert_eq!(answer.refuses(401, "unauthenticated").body, shown("unauthenticated", &answer));
            }
        }
    }
    assert_eq!(rows(&api).await, before);
}

#[tokio::test]
async fn an_open_stage_asks_for_no_claim_and_tells_no_id() {
    let api = Api::start().await;
    let club = api.club().await;
    for authorizer in AUTHORIZERS {
        let customer = format!("{authorizer:?}");
        assert_eq!(api.call(of("c", Call::subscribe(club, &customer), authorizer)).await.status, 201);
        let again = api.call(of(&customer, Call::subscribe(club, &customer), authorizer)).await;
        assert_eq!(again.refuses(409, "already_subscribed").body["subscription_id"], json!(null));
    }
}

#[tokio::test]
async fn of_64_simultaneous_calls_only_those_of_the_customer_count() {
    let api = closed().await;
    let club = api.club().await;
    let mine = subscription(&api, club, "c").await;
    let other = subscription(&api, club, "other").await;
    let new = api.club().await;
    let environments = join_all((0..8).map(|index| api.environment(["subscribe", "status"][index % 2]))).await;

    let (environments, mine, other) = (&environments, &mine, &other);
    let answers = join_all((0..64).map(|number| async move {
        let call = match number % 4 {
            0 => Call::subscribe(new, "c"),
            1 => cancel(mine),
            2 => Call::subscribe(new, "other"),
            _ => cancel(other),
        };
        environments[number % 8].call(&of("c", call, AUTHORIZERS[number / 4 % 4])).await
    }))
    .await;

    let of_kind = |kind: usize| answers.iter().skip(kind).step_by(4);
    let subscribed = of_kind(0).find(|answer| answer.status == 201).unwrap();
    for answer in of_kind(0).filter(|answer| answer.status != 201) {
        assert_eq!(answer.refuses(409, "already_subscribed").text("subscription_id"), subscribed.text("id"));
    }
    assert!(of_kind(1).all(|answer| answer.status == 200));
    of_kind(2).for_each(|answer| {
        answer.refuses(403, "customer_mismatch");
    });
    of_kind(3).for_each(|answer| {
        answer.refuses(404, "subscription_not_found");
    });
    let entries = |subscription: &str| {
        format!("select count(*) from subscription_status_history where subscription_id = '{subscription}'")
    };
    assert_eq!(api.ask::<i64>(&entries(mine)).await, 1 + 16);
    assert_eq!(api.ask::<i64>(&entries(other)).await, 1);
    assert_eq!(api.ask::<i64>("select count(*) from subscription").await, 3);
}
