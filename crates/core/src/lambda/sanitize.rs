//! Events that lambda_http cannot turn into a request.

use base64::prelude::{BASE64_STANDARD, Engine};
use lambda_http::{LambdaEvent, http::header::HOST, request::LambdaRequest};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::http::LONGEST_BODY;

/// The characters that a URL's query must not contain unescaped.
const ILLEGAL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`');

/// Escapes or removes what makes lambda_http panic before a handler is called. An illegal query is escaped. Two headers
/// that no function reads are removed. A body that should be base64 and is not is removed, so it is refused. A body that
/// is too long is cut to a length that is still refused, so it is not decoded or copied whole.
pub fn sanitize_event(mut event: LambdaEvent<LambdaRequest>) -> LambdaEvent<LambdaRequest> {
    let (headers, body, is_base64) = match &mut event.payload {
        LambdaRequest::ApiGatewayV1(event) => (&mut event.headers, &mut event.body, &mut event.is_base64_encoded),
        LambdaRequest::ApiGatewayV2(event) => {
            if let Some(query) = &mut event.raw_query_string {
                *query = utf8_percent_encode(query, ILLEGAL).to_string();
            }
            (&mut event.headers, &mut event.body, &mut event.is_base64_encoded)
        }
        _ => return event,
    };
    headers.remove(HOST);
    headers.remove("x-forwarded-proto");
    if let Some(body) = body {
        let longer = LONGEST_BODY + 1;
        // base64 writes three bytes as four characters. A character of UTF-8 has up to four bytes.
        body.truncate(body.floor_char_boundary(if *is_base64 { longer.div_ceil(3) * 4 } else { longer + 3 }));
    }
    if *is_base64 && body.as_ref().is_some_and(|body| BASE64_STANDARD.decode(body).is_err()) {
        (*body, *is_base64) = (None, false);
    }
    event
}
