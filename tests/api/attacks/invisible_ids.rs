//! Anybody uses ids that nobody can see, to hide in a list or to look like another id.

use harness::{Api, Call, gateway::GATEWAYS};
use serde_json::json;

#[tokio::test]
async fn somebody_uses_ids_that_nobody_can_see() {
    let api = Api::start().await;
    let club = api.club().await;
    let rows = "select (select count(*) from subscription) + (select count(*) from subscription_status_history)";
    let before: i64 = api.ask(rows).await;
    for id in [
        " ",
        "   ",
        "\u{a0}",
        "\u{ad}",
        "\u{34f}",
        "\u{61c}",
        "\u{115f}",
        "\u{1680}",
        "\u{180e}",
        "\u{200b}",
        "\u{200d}",
        "\u{202e}",
        "\u{2028}",
        "\u{2060}",
        "\u{2800}",
        "\u{3000}",
        "\u{3164}",
        "\u{fe0f}",
        "\u{feff}",
        "\u{ffa0}",
        "\u{e0041}",
        " \u{200b}\u{3164}\u{2800} ",
    ] {
        let encoded = form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20");
        for gateway in GATEWAYS {
            for call in [
                Call::subscribe(club, id),
                Call::post(format!("/subscription/{encoded}/status"), json!({ "status_id": 1 })),
                Call::get(format!("/subscription/{encoded}")),
                Call::get(format!("/subscription/{encoded}/charge")),
                Call::charge(&encoded, "o"),
                Call::get("/subscription").query("customer_id", id),
                Call::get("/charge").query("subscription_id", id),
            ] {
                let answer = api.call(call.via(gateway)).await;
                let detail = answer.refuses(400, "invalid_request").text("detail");
                assert!(detail.ends_with("must have a visible character"), "{gateway:?} {id:?}: {detail}");
            }
        }
    }
    assert_eq!(api.ask::<i64>(rows).await, before);
    for customer in [" a ", "\u{3164}a", "e\u{301}", "👩\u{200d}🚀", "\u{e000}"] {
        let club = api.club().await;
        assert_eq!(api.subscribe(club, customer).await.status, 201, "{customer:?}");
    }
}
