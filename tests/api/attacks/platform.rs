//! The platform sends a `retry-after` of a thousand years, an order that common parsers cannot read, and answers that break the
//! rules of HTTP. A 2xx that can be read is a charge, whatever its headers and its body are. An answer that cannot be read says
//! nothing about the order.

use ecommerce_stub::{Answer as Reply, Behaviour};
use harness::{Answer, Api, Call, Environment};
use serde_json::{Value, json};

const ORDER: &str = r#"{"a":1}"#;

/// An order, its answer and the answer to the same call once the platform is tidy.
async fn charge(api: &Api, environment: &Environment, name: &str, answer: &[u8], take: bool) -> (Answer, Answer) {
    let bytes = answer.to_vec();
    api.platform.behave_once(Behaviour { answer: Reply::Raw { take, bytes }, ..Behaviour::default() });
    let subscription: String = api
        .ask("insert into subscription select gen_random_uuid()::text, id, 'c' from club returning subscription.id")
        .await;
    let call = Call::charge(&subscription, &format!("o.{subscription}"));
    let first = environment.call(&call).await;
    let again = environment.call(&call).await;
    assert_eq!(again.status, 200, "{name}: {again:?}");
    (first, again)
}

/// 201 with these header lines and an order.
fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"HTTP/1.1 201 Created\r\n", lines.as_ref(), b"content-length: 7\r\n\r\n", ORDER.as_bytes()].concat()
}

/// 201 with these header lines and this body.
fn made_of(lines: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 201 Created\r\n{lines}\r\n{body}").into_bytes()
}

/// An answer that begins like this, with an order.
fn beginning(head: &str) -> Vec<u8> {
    format!("{head}content-length: 7\r\n\r\n{ORDER}").into_bytes()
}

#[tokio::test]
async fn a_success_is_a_charge_whatever_is_wrong_with_its_headers_and_its_body() {
    let many = |count: usize| "x-many: of them\r\n".repeat(count);
    let chunked = "transfer-encoding: chunked\r\n";
    let chunk = "7\r\n{\"a\":1}\r\n0\r\n\r\n";
    let order = json!({ "a": 1 });
    let nothing = Value::Null;
    let cases: Vec<(&str, Vec<u8>, &Value)> = vec![
        ("a space before the colon", with("X-Powered-By : PHP\r\n"), &order),
        ("a warning", with("PHP Warning: x in y on line 3\r\n"), &order),
        ("a warning and HTML", with("<br />\r\n<b>Warning</b>: x in <b>y</b>\r\n"), &order),
        ("a folded header", with("X-Folded: a\r\n b\r\n\tc\r\n"), &order),
        ("a folded length", made_of("content-length:\r\n 7\r\n", ORDER), &order),
        ("a space before the colon of the length", made_of("content-length : 7\r\n", ORDER), &order),
        ("150 headers", with(many(150)), &order),
        ("4,000 headers", with(many(4000)), &order),
        ("300 KB of headers", with(format!("x: {}\r\n", "y".repeat(300 * 1024))), &order),
        ("no name", with(": x\r\n"), &order),
        ("no colon", with("nonsense\r\n"), &order),
        ("a space before the first name", with(" X: a\r\n"), &order),
        ("UTF-8 in a name", with("X-Grüße: a\r\n"), &order),
        ("UTF-8 in a value", with("X: Grüße\r\n"), &order),
        ("not UTF-8", with(b"X-\xff: \xff\r\n"), &order),
        ("control characters in a name", with("X\x01\x7f: a\r\n"), &order),
        ("control characters in a value", with("X: \x01\x1b[0m\x7f\r\n"), &order),
        ("a name of 70,000 characters that is none", with(format!("x {}\r\n", "y".repeat(70_000))), &order),
        ("line feeds alone", format!("HTTP/1.1 201 Created\ncontent-length: 7\n\n{ORDER}").into_bytes(), &order),
        ("no reason", beginning("HTTP/1.1 201\r\n"), &order),
        ("an empty reason", beginning("HTTP/1.1 201 \r\n"), &order),
        ("a reason in UTF-8", beginning("HTTP/1.1 201 Grüße\r\n"), &order),
        ("HTTP/1.0", beginning("HTTP/1.0 200 OK\r\n"), &order),
        ("a status that nobody knows", beginning("HTTP/1.1 299 Fine\r\n"), &order),
        ("empty lines first", beginning("\r\n\n\r\nHTTP/1.1 201 Created\r\n"), &order),
        (
            "others first",
            beginning(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink : x\r\n\r\nHTTP/1.1 201 Created\r\n",
            ),
            &order,
        ),
        ("two equal lengths", with("content-length: 7\r\n"), &order),
        ("one length, twice", made_of("content-length: 7, 7\r\n", ORDER), &order),
        ("a length and chunks", made_of(&format!("content-length: 99\r\n{chunked}"), chunk), &order),
        ("another encoding", made_of("transfer-encoding: identity\r\n", ORDER), &order),
        ("no length", made_of("", ORDER), &order),
        ("a length that is no header", made_of("content length: 7\r\n", ORDER), &order),
        ("more than its length", with("").into_iter().chain(*b"HTTP/1.1 422 No\r\n\r\n").collect(), &order),
        ("a content-encoding that is not true", with("content-encoding: gzip\r\n"), &order),
        ("a length that is too great", made_of("content-length: 99\r\n", ORDER), &nothing),
        ("a length that is too small", made_of("content-length: 5\r\n", ORDER), &nothing),
        ("a length of nothing", made_of("content-length: 0\r\n", ORDER), &nothing),
        ("a size of a chunk that is none", made_of(chunked, "z\r\n{\"a\":1}\r\n0\r\n\r\n"), &nothing),
        ("a chunk that is too long", made_of(chunked, "5\r\n{\"a\":1}\r\n0\r\n\r\n"), &nothing),
        ("a chunk that is cut", made_of(chunked, "ff\r\n{\"a\":1}"), &nothing),
        ("no last chunk", made_of(chunked, "7\r\n{\"a\":1}\r\n"), &nothing),
        ("204 with a body", beginning("HTTP/1.1 204 No Content\r\n"), &nothing),
        ("a location", beginning("HTTP/1.1 201 Created\r\nlocation: /order/elsewhere\r\n"), &order),
    ];
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "5000")]).await;
    api.club().await;
    let environment = api.environment("charge").await;
    for (name, answer, order) in cases {
        let (first, again) = charge(&api, &environment, name, &answer, true).await;
        assert_eq!((first.status, &first.body["order"]), (200, order), "{name}: {first:?}");
        assert_eq!((&first.body["already_charged"], &again.body["already_charged"]), (&json!(false), &json!(true)));
    }
    assert!(api.platform.strangers().is_empty(), "{:?}", api.platform.strangers());
}

/// hyper has no setting that reads these. A repeat under the same request_id finds the order.
#[tokio::test]
async fn an_answer_that_cannot_be_read_is_an_unknown_outcome() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("a NUL in a header", with("X: \0\r\n")),
        ("a carriage return in a header", with("X: a\rb\r\n")),
        ("no digits in the length", made_of("content-length: seven\r\n", ORDER)),
        ("a sign in the length", made_of("content-length: +7\r\n", ORDER)),
        ("an empty length", made_of("content-length:\r\n", ORDER)),
        ("two lengths", with("content-length: 8\r\n")),
        ("two lengths in one", made_of("content-length: 7, 8\r\n", ORDER)),
        ("chunks in HTTP/1.0", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        ("5,000 headers", with("x-many: of them\r\n".repeat(5000))),
        ("600 KB of headers", with(format!("x: {}\r\n", "y".repeat(600 * 1024)))),
        ("two spaces", beginning("HTTP/1.1  201 Created\r\n")),
        ("a space first", beginning(" HTTP/1.1 201 Created\r\n")),
        ("lower case", beginning("http/1.1 201 Created\r\n")),
        ("HTTP/2 in words", beginning("HTTP/2 201\r\n")),
        ("another protocol", beginning("ICY 200 OK\r\n")),
        ("four digits", beginning("HTTP/1.1 2011 Created\r\n")),
        ("two digits", beginning("HTTP/1.1 20\r\n")),
        ("a status below 100", beginning("HTTP/1.1 001 Created\r\n")),
        ("headers without an end", b"HTTP/1.1 201 Created\r\ncontent-length: 7\r\n".to_vec()),
        ("half a status", b"HTTP/1.1 20".to_vec()),
        ("the beginning of an answer", b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        ("another protocol from now on", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_vec()),
        ("an order alone", ORDER.into()),
        ("untidy headers of a failure", beginning("HTTP/1.1 500 No\r\nX-Powered-By : PHP\r\n")),
        ("a status that HTTP does not have", beginning("HTTP/1.1 999 No\r\n")),
    ];
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "5000")]).await;
    api.club().await;
    let environment = api.environment("charge").await;
    for (name, answer) in cases {
        let (first, again) = charge(&api, &environment, name, &answer, true).await;
        assert_eq!((first.status, first.text("code")), (504, "charge_outcome_unknown"), "{name}: {first:?}");
        assert_eq!(again.body["already_charged"], json!(false), "{name}: {again:?}");
    }
}

#[tokio::test]
async fn a_refusal_counts_whatever_is_wrong_with_its_headers() {
    let api = Api::start().await;
    api.club().await;
    let environment = api.environment("charge").await;
    for lines in
        ["X-Powered-By : PHP\r\n", "PHP Warning: x in y on line 3\r\n", "X: a\r\n b\r\n", &"x: y\r\n".repeat(150)]
    {
        for (status, code) in [("422 No", "order_rejected"), ("429 Later", "ecommerce_unavailable")] {
            let answer = beginning(&format!("HTTP/1.1 {status}\r\n{lines}"));
            let (first, again) = charge(&api, &environment, lines, &answer, false).await;
            assert_eq!(first.text("code"), code, "{lines}: {first:?}");
            assert_eq!(again.body["already_charged"], json!(false));
        }
    }
}

#[tokio::test]
async fn the_platform_says_to_come_back_in_a_thousand_years() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    for (retry_after, seconds) in
        [("17", "17"), ("0", "1"), ("31536000000", "300"), ("Mon, 01 Jan 3027 00:00:00 GMT", "300"), ("soon", "2")]
    {
        let headers = [("retry-after".to_owned(), retry_after.to_owned())].into();
        api.platform.behave_once(Behaviour {
            answer: Reply::Status { status: 429, headers, body: String::new() },
            ..Behaviour::default()
        });
        let answer = api.charge(&subscription, "o").await;
        assert_eq!(answer.refuses(503, "ecommerce_unavailable").headers["retry-after"], seconds, "{retry_after}");
    }
    assert!(api.attempts().await.iter().all(|attempt| attempt["state"] == "not_sent"));
    assert_eq!(api.charge(&subscription, "another").await.status, 200);
}

#[tokio::test]
async fn the_platform_nests_an_order_6000_deep() {
    let api = Api::start().await;
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for (levels, kept) in [(61, true), (62, false), (6000, false)] {
        let subscription = api.subscription().await;
        let body = nested(levels);
        let order: Value = if kept { serde_json::from_str(&body).unwrap() } else { Value::Null };
        let answer = Reply::Status { status: 201, headers: Default::default(), body };
        api.platform.behave_once(Behaviour { answer, ..Behaviour::default() });
        for (request_id, already) in [("o", false), ("o", true), ("another", true)] {
            let charged = api.charge(&subscription, &format!("{request_id}-{levels}")).await;
            let expected = (200, &json!(already), &order);
            assert_eq!(
                (charged.status, &charged.body["already_charged"], &charged.body["order"]),
                expected,
                "{levels}"
            );
        }
        let charges = api.call(Call::get("/charge").query("subscription_id", &subscription)).await;
        assert_eq!(charges.body["charges"][0]["order"], order, "{levels}");

        // A refusal is kept as a text.
        let subscription = api.subscription().await;
        let answer = Reply::Status { status: 402, headers: Default::default(), body: nested(levels) };
        api.platform.behave_once(Behaviour { answer, ..Behaviour::default() });
        let refused = api.charge(&subscription, &format!("refused-{levels}")).await;
        let upstream_answer = &refused.refuses(502, "order_rejected").body["upstream_answer"];
        assert_eq!((upstream_answer.is_array(), upstream_answer.is_string()), (kept, !kept), "{levels}");
    }
}
