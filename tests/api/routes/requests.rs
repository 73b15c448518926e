//! Every kind of gateway, and everything that callers can put into a request.

use std::time::Duration;

use harness::{Api, Call, eventually, gateway::GATEWAYS};
use serde_json::json;

#[tokio::test]
async fn every_route_answers_every_gateway_with_and_without_a_slash() {
    let api = Api::start().await;
    for (index, gateway) in GATEWAYS.into_iter().enumerate() {
        for (slash_index, slash) in ["", "/"].into_iter().enumerate() {
            let club = api.club().await;
            let at = |path: String| format!("{path}{slash}");
            let subscribed = api
                .call(Call::post(at(format!("/club/{club}/subscribe")), json!({ "customer_id": "c" })).via(gateway))
                .await;
            assert_eq!(subscribed.status, 201, "{gateway:?} {subscribed:?}");
            let id = subscribed.text("id").to_owned();
            let status = api
                .call(Call::post(at(format!("/subscription/{id}/status")), json!({ "status_id": 1 })).via(gateway))
                .await;
            assert_eq!(status.status, 200, "{gateway:?} {status:?}");
            let found = api.call(Call::get(at(format!("/subscription/{id}"))).via(gateway)).await;
            assert_eq!(found.text("id"), id, "{gateway:?} {found:?}");
            let of_customer = Call::get(at("/subscription".to_owned())).via(gateway).query("customer_id", "c");
            let list = api.call(of_customer).await;
            assert!(list.body.as_array().unwrap().contains(&found.body), "{gateway:?} {list:?}");
            let clubs = api.call(Call::get(at("/club".to_owned())).via(gateway)).await;
            assert!(clubs.body.as_array().unwrap().iter().any(|active| active["id"] == club), "{gateway:?} {clubs:?}");
            let page =
                Call::get(at("/subscription/eligible".to_owned())).via(gateway).query("limit", "1").query("after", "");
            let eligible = api.call(page).await;
            assert_eq!(eligible.body.as_array().map(Vec::len), Some(1), "{gateway:?} {eligible:?}");
            let mut charge = Call::charge(&id, &format!("o-{index}-{slash_index}")).via(gateway);
            charge.path = at(charge.path);
            let charged = api.call(charge).await;
            assert_eq!(charged.status, 200, "{gateway:?} {charged:?}");
            let months = api.call(Call::get(at(format!("/subscription/{id}/charge"))).via(gateway)).await;
            assert_eq!(months.body[0]["request_id"], charged.body["request_id"], "{gateway:?} {months:?}");
            let of_month = Call::get(at("/charge".to_owned())).via(gateway).query("subscription_id", &id);
            let of_month = api.call(of_month).await;
            assert_eq!(of_month.body["charges"][0]["order"], charged.body["order"], "{gateway:?} {of_month:?}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_the_headers() {
    let api = Api::start().await;
    let club = api.club().await;
    let subscribed = api.subscribe(club, "c").await;
    api.subscribe(club, "d").await;
    let page = api.call(Call::get("/subscription/eligible").query("limit", "1")).await;
    for (answer, header) in [(&subscribed, "location"), (&page, "link"), (&page, "billing-month")] {
        assert!(answer.headers.contains_key(header), "{answer:?}");
        let exposed = &answer.headers["access-control-expose-headers"];
        assert!(exposed.split(',').any(|name| name == header), "{exposed}");
    }
}

#[tokio::test]
async fn ids_of_any_characters_are_found_through_every_gateway() {
    let api = Api::start().await;
    for id in ["a b", "é", "🍺", "a+b", "'; --", "\"", "100%", "%41", "a%2Fb", "a/b", "..", "?", "#", "a\\b"] {
        api.run(&format!("insert into subscription values ('{}')", id.replace('\'', "''"))).await;
        let encoded: String = form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20");
        for gateway in GATEWAYS {
            let call = Call::post(format!("/subscription/{encoded}/status"), json!({ "status_id": 1 })).via(gateway);
            let answer = api.call(call).await;
            assert_eq!((answer.status, answer.text("subscription_id")), (200, id), "{gateway:?} {answer:?}");
            let found = api.call(Call::get(format!("/subscription/{encoded}")).via(gateway)).await;
            assert_eq!((found.status, found.text("id")), (200, id), "{gateway:?} {found:?}");
        }
    }
}

#[tokio::test]
async fn invalid_ids_in_paths_are_refused_through_every_gateway() {
    let api = Api::start().await;
    for gateway in GATEWAYS {
        for id in
            ["%00", "a%00b", "%0A", "%7F", "%C2%85", &"x".repeat(37), &"x".repeat(10_000), &"%F0%9F%8D%BA".repeat(37)]
        {
            let call = Call::post(format!("/subscription/{id}/status"), json!({ "status_id": 1 })).via(gateway);
            api.call(call).await.refuses(400, "invalid_request");
            api.call(Call::charge(id, "o").via(gateway)).await.refuses(400, "invalid_request");
            api.call(Call::get(format!("/subscription/{id}")).via(gateway)).await.refuses(400, "invalid_request");
        }
        for id in ["0", "-1", "x", "2147483648", "1%2E0", "%00", "1e3", "+1", "🍺", &"9".repeat(10_000)] {
            let call = Call::post(format!("/club/{id}/subscribe"), json!({ "customer_id": "c" })).via(gateway);
            api.call(call).await.refuses(400, "invalid_request");
        }
    }
    let not_utf8 = Call::post("/subscription/%FF%FE/status", json!({ "status_id": 1 }));
    api.call(not_utf8).await.refuses(400, "invalid_request");
}

#[tokio::test]
async fn bodies_of_any_content_type_and_encoding_are_read() {
    let api = Api::start().await;
    for (index, gateway) in GATEWAYS.into_iter().enumerate() {
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/json; charset=utf-8"),
        ] {
            let club = api.club().await;
            let customer = format!("c-{index}");
            let mut call = Call::subscribe(club, &customer).via(gateway);
            call.headers =
                content_type.map(|value| ("content-type".to_owned(), value.to_owned())).into_iter().collect();
            assert_eq!(api.call(call).await.status, 201, "{content_type:?}");
        }
        let club = api.club().await;
        let mut call = Call::subscribe(club, "").via(gateway);
        call.base64 = true;
        call.body = Some("eyJjdXN0b21lcl9pZCI6ICJtw6QifQ==".to_owned());
        let answer = api.call(call.clone()).await;
        assert_eq!((answer.status, answer.text("customer_id")), (201, "mä"));
        call.body = Some("//79/A==".to_owned());
        api.call(call).await.refuses(400, "invalid_request");
        let empty = Call::subscribe(club, "").via(gateway).body("");
        api.call(empty).await.refuses(400, "invalid_request");
    }
}

#[tokio::test]
async fn an_error_names_the_invocation_that_the_log_names() {
    let api = Api::start().await;
    let environment = api.environment("status").await;
    let answer = environment.call(&Call::post("/subscription/x/status", json!({ "status_id": 9 }))).await;
    let invocation = answer.text("instance").strip_prefix("urn:uuid:").unwrap().to_owned();
    eventually("the refusal is logged", async || environment.log().contains("invalid_request")).await;
    let log = environment.log();
    let line = log.lines().find(|line| line.contains("invalid_request")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["span"]["requestId"], invocation, "{line}");
    assert_eq!((&line["level"], &line["http.status"]), (&json!("INFO"), &json!(400)), "{line}");
}

#[tokio::test]
async fn a_failure_reveals_nothing_internal() {
    let api = Api::start().await;
    let environment = api.environment_with("status", &[("RUST_LOG", "error")]).await;
    api.run("drop table subscription_status_history cascade").await;
    let call = Call::post("/subscription/x/status", json!({ "status_id": 1 }));
    let answer = environment.invoke(call.event(), Duration::from_secs(29)).await;
    let body = answer.refuses(500, "internal_error").body.to_string();
    assert!(!body.contains("subscription_status_history") && !body.contains("relation"), "{body}");
    eventually("the log has it", async || environment.log().contains("does not exist")).await;
    let invocation = answer.text("instance").strip_prefix("urn:uuid:").unwrap();
    assert!(environment.log().contains(invocation), "under the id that the answer names");
}

#[tokio::test]
async fn events_that_make_no_valid_http_request_are_answered_too() {
    let api = Api::start().await;
    let club = api.club().await;
    let eligible = api.environment("eligible").await;
    let subscribe = api.environment("subscribe").await;
    let time = Duration::from_secs(29);
    for gateway in GATEWAYS {
        let list = Call::get("/subscription/eligible").via(gateway);
        for query in ["a=b<c>", "\"", "a b", "é", "#", "`", "{}|\\^", "%", "%zz", "limit=1&\t", "\u{0}"] {
            let mut event = list.event();
            event["rawQueryString"] = json!(query);
            assert_eq!(eligible.invoke(event, time).await.status, 200, "{gateway:?} {query}");
        }
        for (header, value) in [("host", "x:99999"), ("host", "a b"), ("host", "é"), ("x-forwarded-proto", "<>")] {
            let mut event = list.event();
            event["headers"][header] = json!(value);
            event["multiValueHeaders"] = json!({ header: [value] });
            assert_eq!(eligible.invoke(event, time).await.status, 200, "{gateway:?} {header}: {value}");
        }
        let mut event = Call::subscribe(club, "c").via(gateway).event();
        event["isBase64Encoded"] = json!(true);
        subscribe.invoke(event, time).await.refuses(400, "invalid_request");
    }
}
