//! The parameters of the path.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::FromRequest;
use crate::error::Error;
use crate::request::Request;

/// The parameters of the path, with their escapes undone: one value, a tuple in the order of the pattern, or a
/// struct by name; 404 where a value does not fit, since no such thing can be there.
///
/// ```
/// use gimmal::{App, Path};
///
/// async fn page(Path((user, page)): Path<(String, u32)>) -> String {
///     format!("page {page} of {user}")
/// }
/// let app = App::new().get("/users/{user}/pages/{page}", page);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<T>(
    /// The value.
    pub T,
);

impl<T: DeserializeOwned> FromRequest for Path<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        T::deserialize(Parameters(request)).map(Self).map_err(|refused| match refused {
            Refused::Value(what) => Error::new(StatusCode::NOT_FOUND, format!("the path is refused: {what}")),
            Refused::Text => {
                Error::new(StatusCode::BAD_REQUEST, "the path is refused: an escape in it is not UTF-8")
            }
        })
    }
}

#[derive(Debug)]
enum Refused {
    /// It does not fit the type.
    Value(String),
    /// It is not UTF-8.
    Text,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(what) => f.write_str(what),
            Self::Text => f.write_str("not UTF-8"),
        }
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::Value(what.to_string())
    }
}

/// All parameters of a request.
struct Parameters<'a>(&'a Request);

impl<'a> Parameters<'a> {
    fn only(self) -> Result<Value<'a>, Refused> {
        let mut values = self.0.parameters();
        match (values.next(), values.len()) {
            (Some((_, value)), 0) => Ok(Value(value)),
            _ => Err(Refused::custom("the route has not exactly one parameter; extract a tuple or a struct")),
        }
    }
}

/// One value, if there is one parameter.
macro_rules! only {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.only()?.$method(visitor)
        })+
    };
}

impl<'de> Deserializer<'de> for Parameters<'de> {
    type Error = Refused;

    only! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_map(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(SeqDeserializer::new(self.0.parameters().map(|(_, value)| Value(value))))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        if self.0.parameters().len() != len {
            return Err(Refused::custom(format_args!("the route has not exactly {len} parameters")));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_map(MapDeserializer::new(self.0.parameters().map(|(name, value)| (name, Value(value)))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }
}

/// One parameter, with its escapes.
struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    fn decoded(&self) -> Result<Cow<'a, str>, Refused> {
        percent_decode_str(self.0).decode_utf8().map_err(|_| Refused::Text)
    }
}

impl<'de> IntoDeserializer<'de, Refused> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $what:literal)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            match self.decoded()?.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(Refused::custom(concat!("a part of it is not ", $what))),
            }
        })+
    };
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Refused;

    parsed! {
        deserialize_bool visit_bool "true or false"
        deserialize_i8 visit_i8 "a small whole number"
        deserialize_i16 visit_i16 "a small whole number"
        deserialize_i32 visit_i32 "a whole number"
        deserialize_i64 visit_i64 "a whole number"
        deserialize_i128 visit_i128 "a whole number"
        deserialize_u8 visit_u8 "a small positive number"
        deserialize_u16 visit_u16 "a small positive number"
        deserialize_u32 visit_u32 "a positive number"
        deserialize_u64 visit_u64 "a positive number"
        deserialize_u128 visit_u128 "a positive number"
        deserialize_f32 visit_f32 "a number"
        deserialize_f64 visit_f64 "a number"
        deserialize_char visit_char "one character"
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.decoded()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_enum(self.decoded()?.into_deserializer())
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
