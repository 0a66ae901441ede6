//! `GET openapi.json`: what there is to call, made of the router's own table (`routes.rs`) and of the types that requests
//! are read into. It describes and decides nothing. Specification: OpenAPI 3.1.

use std::sync::LazyLock;

use bytes::Bytes;
use quittance_taler::ErrorCode as Code;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use super::page::HTML;
use super::reply;
use super::routes::{Body, Demand, ROUTES, Route, Shape};
use quittance_events::receipt::HEADER;

const JSON: &str = "application/json";

const ABOUT: &str = "An audit-first ledger service for GNU Taler merchants. Every path takes the methods that stand here \
and OPTIONS, and answers others with 405 and code 20; every path that does not stand here is 404 with code 21. Members that a request \
has beside those described are ignored; it may be packed with gzip or deflate. An error has Taler's `code`, a `hint` and often a `detail`.";

static DOCUMENT: LazyLock<Value> = LazyLock::new(make);
static BYTES: LazyLock<Bytes> = LazyLock::new(|| DOCUMENT.to_string().into());

/// The document.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Every path and method that the router has, templates for names; a tile's with a star.
pub fn routes() -> impl Iterator<Item = (&'static str, String)> {
    ROUTES.iter().flat_map(|route| {
        let paths = route.addresses(&[route.path]);
        paths.into_iter().map(|path| (route.method, path))
    })
}

pub(super) fn get() -> Response {
    reply::with_body(StatusCode::OK, BYTES.to_vec(), JSON)
}

impl Route {
    /// Paths at the root and, where it has them, of an instance.
    fn addresses(&self, paths: &[&str]) -> Vec<String> {
        let root = paths.iter().map(|path| format!("/{path}"));
        let instances = paths.iter().map(|path| format!("/instances/{{instance}}/{path}"));
        if self.of_instances {
            root.chain(instances).collect()
        } else {
            root.collect()
        }
    }

    /// Each status with the codes that it can have, in order.
    fn refused(&self, of_instance: bool) -> Vec<(u16, Vec<Code>)> {
        let mut all = self.refusals.to_vec();
        all.extend([
            (400, Code::GenericJsonInvalid),
            (400, Code::GenericCompressionInvalid),
            (413, Code::GenericUploadExceedsLimit),
            (500, Code::GenericDbStoreFailed),
            (500, Code::GenericDbFetchFailed),
            (500, Code::GenericInternalInvariantFailure),
            (503, Code::GenericOsResourceAllocationFailure),
        ]);
        if of_instance || self.of_instances {
            all.push((404, Code::MerchantGenericInstanceUnknown));
        }
        if self.demand != Demand::Nothing {
            all.extend([
                (401, Code::GenericUnauthorized),
                (401, Code::GenericTokenUnknown),
                (401, Code::GenericTokenExpired),
            ]);
        }
        if !self.demand.scopes().is_empty() {
            all.push((403, Code::GenericTokenPermissionInsufficient));
        }
        all.sort_by_key(|(status, code)| (*status, code.code()));
        all.chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, code)| *code).collect()))
            .collect()
    }

    fn operation(
        &self,
        path: &str,
        generator: &mut SchemaGenerator,
        shared: &mut Map<String, Value>,
    ) -> Value {
        let mut responses = Map::new();
        for (status, codes) in self.refused(path.starts_with("/instances/")) {
            // Most paths refuse alike: what they say of it stands in the document once.
            let name = codes
                .iter()
                .fold(status.to_string(), |name, code| format!("{name}-{}", code.code()));
            let name = if self.has_page { name + "-page" } else { name };
            responses.insert(
                status.to_string(),
                json!({"$ref": format!("#/components/responses/{name}")}),
            );
            shared
                .entry(name)
                .or_insert_with(|| self.paged(refusal(status, &codes)));
        }
        for (status, body) in self.answers {
            let answer = self.paged(answer(*status, *body, generator));
            responses.insert(status.to_string(), answer);
        }
        let scopes: Vec<_> = self.demand.scopes().iter().map(|scope| scope.as_str()).collect();
        let summary = if scopes.is_empty() {
            self.summary.to_owned()
        } else {
            format!(
                "{} Needs a token with scope {}.",
                self.summary,
                scopes.join(" or ")
            )
        };
        let mut operation = json!({
            "summary": summary,
            "operationId": id(self.method, path),
            "parameters": parameters(path, self.query, generator),
            "responses": responses,
            "security": if self.demand == Demand::Nothing { json!([]) } else { json!([{"token": []}]) },
        });
        if let Some(request) = self.request {
            operation["requestBody"] =
                json!({"required": true, "content": {JSON: {"schema": request(generator)}}});
        }
        operation
    }
}

impl Route {
    /// The response with the page that a browser gets in its place, where there is one.
    fn paged(&self, mut response: Value) -> Value {
        if self.has_page {
            response["content"][HTML] = json!({"schema": {"type": "string"}});
        }
        response
    }
}

fn id(method: &str, path: &str) -> String {
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.fold(method.to_ascii_lowercase(), |id, word| format!("{id}_{word}"))
}

fn refusal(status: u16, codes: &[Code]) -> Value {
    let mut description: Vec<String> = codes
        .iter()
        .map(|code| format!("{} {}: {}", code.code(), code.name(), code.hint()))
        .collect();
    description.dedup();
    let numbers: Vec<u32> = codes.iter().map(|code| code.code()).collect();
    let mut response = json!({
        "description": description.join("\n"),
        "content": {JSON: {"schema": {
            "type": "object",
            "required": ["code", "hint"],
            "properties": {
                "code": {"enum": numbers},
                "hint": {"type": "string"},
                "detail": {"type": "string"},
            },
        }}},
    });
    let members = &mut response["content"][JSON]["schema"]["properties"];
    match status {
        // Of what the exchange said.
        502 => {
            members["exchange_http_status"] = json!({"type": "integer"});
            members["exchange_code"] = json!({"type": "integer"});
            members["exchange_reply"] = json!({"type": "object"});
        }
        503 => {
            members["status"] = json!({"type": "string"});
            members["reason"] = json!({"type": "string"});
            response["headers"] = json!({"Retry-After": {"schema": {"type": "string"}}});
        }
        401 => response["headers"] = json!({"WWW-Authenticate": {"schema": {"type": "string"}}}),
        _ => {}
    }
    response
}

fn answer(status: u16, body: Body, generator: &mut SchemaGenerator) -> Value {
    let description = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let mut response = json!({"description": description.unwrap_or_default()});
    let mut content = |media: &str, schema: Value| response["content"] = json!({media: {"schema": schema}});
    match body {
        Body::Json(shape) => content(JSON, shape(generator).to_value()),
        Body::Receipted(shape) => {
            content(JSON, shape(generator).to_value());
            let receipt = "`ORIGIN SEQ EVENT BODY SIG`: keep it to prove this answer";
            response["headers"] = json!({HEADER: {"description": receipt, "schema": {"type": "string"}}});
        }
        Body::Text => content("text/plain; charset=utf-8", json!({"type": "string"})),
        Body::Bytes => content(
            "application/octet-stream",
            json!({"type": "string", "format": "binary"}),
        ),
        Body::Empty => {}
    }
    response
}

/// The names in a path and in a query, and what may stand for each.
fn parameters(path: &str, query: &[(&str, Shape, &str)], generator: &mut SchemaGenerator) -> Value {
    let names = path
        .split('{')
        .skip(1)
        .filter_map(|part| Some(part.split_once('}')?.0));
    let mut parameters: Vec<Value> = names
        .map(|name| {
            let schema = match name {
                "instance" => json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$"}),
                // `.` and `..` are steps in a path.
                "order_id" => json!({"type": "string", "pattern": "^[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,63}$"}),
                "level" => json!({"type": "integer", "minimum": 0, "maximum": 7}),
                "serial" => json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
                "width" => json!({"type": "integer", "minimum": 1, "maximum": 255}),
                _ => json!({
                    "type": "string",
                    "pattern": "^[0-9]{3}$",
                    "description": "from 1000 on more segments, as in x001/067",
                }),
            };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect();
    for (name, shape, what) in query {
        let schema = shape(generator);
        parameters.push(json!({"name": name, "in": "query", "schema": schema, "description": what}));
    }
    parameters.into()
}

fn make() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.for_deserialize().into_generator();
    let mut paths: Map<String, Value> = Map::new();
    let mut shared = Map::new();
    for route in ROUTES {
        let own = [route.path];
        for path in route.addresses(if route.spelt.is_empty() { &own } else { route.spelt }) {
            let operation = route.operation(&path, &mut generator, &mut shared);
            let methods = paths.entry(path).or_insert_with(|| json!({}));
            methods[route.method.to_ascii_lowercase()] = operation;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Quittance", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "responses": shared,
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "`secret-token:...` of the instance, the auditor or the administrator",
            }},
        },
    })
}
