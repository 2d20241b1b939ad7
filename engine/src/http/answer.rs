//! Answers that are not refusals.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, ResponseBuilder};

use super::shape::{self, Described, Out, Parts, Shape, ToJson, ToMember};
use super::write::{Positioned, REPLAYED, Written};

/// What a handler answers when all goes well.
pub(super) trait Answer: IntoResponse {
    /// Its status.
    const STATUS: u16 = 200;

    /// The answer, described.
    fn describe(parts: &mut Parts) -> ResponseBuilder;
}

/// JSON.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

/// A value as text.
#[cfg(test)]
pub(super) fn json_text(value: &impl ToJson) -> String {
    serde_json::to_string(&Out(value)).unwrap()
}

/// A value as the body of an answer.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let media_type = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, media_type)], bytes).into_response()
        }
        Err(error) => super::Problem::internal(error.to_string()).into_response(),
    }
}

impl<T: ToJson> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(&Out(&self.0))
    }
}

fn of_schema(about: &str, schema: Described) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(about).content("application/json", content)
}

impl<T: ToJson> Answer for Json<T> {
    fn describe(parts: &mut Parts) -> ResponseBuilder {
        of_schema("As it is now.", T::describe(parts))
    }
}

impl<T: ToJson, const STATUS: u16> Answer for Written<T, STATUS> {
    const STATUS: u16 = STATUS;

    fn describe(parts: &mut Parts) -> ResponseBuilder {
        let replayed = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"]))))
            .description(Some("There if the request is a repetition, so that nothing changed."));
        let about = if STATUS == 201 { "Created, durably." } else { "Done, durably." };
        of_schema(about, Positioned::<T>::describe(parts)).header(REPLAYED, replayed.build())
    }
}

/// Nothing to say: 204.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Answer for NoContent {
    const STATUS: u16 = 204;

    fn describe(_: &mut Parts) -> ResponseBuilder {
        ResponseBuilder::new().description("All of it is durable.")
    }
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    pub(super) next_page: Option<String>,
}

impl<T> List<T> {
    /// The same page of what its items are made into.
    pub(super) fn map<U>(self, make: impl FnMut(T) -> U) -> List<U> {
        List { items: self.items.into_iter().map(make).collect(), next_page: self.next_page }
    }
}

impl<T: Shape> Shape for List<T> {
    fn describe(parts: &mut Parts) -> Described {
        let items: Described = ArrayBuilder::new().items(T::describe(parts)).into();
        let next = <Option<String> as ToMember>::described(parts);
        let members = vec![
            shape::Member::new("items", "This page's items.", true, items),
            shape::Member::new(
                "next_page",
                "The value of `after` that gets the next page; null on the last one.",
                true,
                next,
            ),
        ];
        Schema::from(shape::object("", members)).into()
    }
}

impl<T: ToJson> ToJson for List<T> {
    fn write<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(bound = "")]
        struct Flat<'a, T: ToJson> {
            items: Out<'a, Vec<T>>,
            next_page: &'a Option<String>,
        }
        Flat { items: Out(&self.items), next_page: &self.next_page }.serialize(to)
    }
}
