//! Which other origins' pages may read responses.

use gimmal_security::cors::{Cors, CorsAnswer, CorsRequest, add_to};
use http::StatusCode;

use super::around::Around;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

impl Around for Cors {
    async fn around(&self, request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        let answer = self.answer(&CorsRequest {
            method: request.method(),
            origin: request.header_bytes("origin"),
            request_method: request.header_bytes("access-control-request-method"),
            request_headers: request.header_bytes("access-control-request-headers"),
            request_private_network: request.header_bytes("access-control-request-private-network"),
        });
        let (mut response, fields) = match answer {
            CorsAnswer::Serve(fields) => (rest(request).await, fields),
            CorsAnswer::Preflight(fields) => (StatusCode::NO_CONTENT.into_response(), fields),
            CorsAnswer::Refuse(refusal, fields) => {
                (StatusCode::FORBIDDEN.into_response().with_error(refusal), fields)
            }
        };
        add_to(response.headers_mut(), fields);
        response
    }
}
