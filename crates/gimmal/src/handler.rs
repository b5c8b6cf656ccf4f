//! Handlers: plain functions from extractors to responses.

use std::any::TypeId;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use gimmal_runtime::LocalFuture;

use crate::extract::FromRequest;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// What a handler needs of the app, so that what is missing is known at the start.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    states: Vec<(TypeId, &'static str)>,
    pub(crate) principal: bool,
    pub(crate) sessions: bool,
}

impl Needs {
    /// Notes that the app must have a state of type `T`.
    pub fn state<T: 'static>(&mut self) {
        self.states.push((TypeId::of::<T>(), std::any::type_name::<T>()));
    }

    /// Notes that something around the handler has to find out who asks.
    pub(crate) fn principal(&mut self) {
        self.principal = true;
    }

    /// Notes that [`Sessions`](crate::auth::Sessions) have to stand around the handler.
    pub(crate) fn sessions(&mut self) {
        self.sessions = true;
    }

    /// Notes what is needed for the best, and not at all costs.
    pub(crate) fn optional(&mut self, note: impl FnOnce(&mut Needs)) {
        let Self { principal, sessions, .. } = *self;
        note(self);
        (self.principal, self.sessions) = (principal, sessions);
    }

    pub(crate) fn states(&self) -> &[(TypeId, &'static str)] {
        &self.states
    }
}

/// An `async fn` of up to eight extractors whose output is a response. The future need not be `Send`.
///
/// Extractors run from left to right; the first that fails answers the request.
///
/// ```
/// use gimmal::{App, Json, Path, StatusCode};
///
/// async fn greet(Path(name): Path<String>) -> String {
///     format!("Hello, {name}!")
/// }
/// let app = App::new().get("/greet/{name}", greet).get("/teapot", async || StatusCode::IM_A_TEAPOT);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an async fn whose arguments implement FromRequest and whose output implements IntoResponse"
)]
pub trait Handler<Arguments>: Clone + Send + Sync + 'static {
    /// Answers a request.
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Response>;

    /// Notes what it needs of the app.
    fn needs(needs: &mut Needs);
}

macro_rules! handlers {
    ($(($($argument:ident),*))+) => {
        $(
            #[allow(non_snake_case, unused_mut, unused_variables, reason = "as many arguments as there are")]
            impl<F, Output, $($argument,)*> Handler<($($argument,)*)> for F
            where
                F: AsyncFn($($argument),*) -> Output + Clone + Send + Sync + 'static,
                Output: IntoResponse + 'static,
                $($argument: FromRequest + 'static,)*
            {
                fn call(self: Rc<Self>, mut request: Request) -> LocalFuture<Response> {
                    LocalFuture::new(async move {
                        $(
                            let $argument = match $argument::from_request(&mut request).await {
                                Ok(argument) => argument,
                                Err(error) => return error.into_response(),
                            };
                        )*
                        (*self)($($argument),*).await.into_response()
                    })
                }

                fn needs(needs: &mut Needs) {
                    $($argument::needs(needs);)*
                }
            }
        )+
    };
}

handlers! {
    ()
    (A)
    (A, B)
    (A, B, C)
    (A, B, C, D)
    (A, B, C, D, E)
    (A, B, C, D, E, G)
    (A, B, C, D, E, G, H)
    (A, B, C, D, E, G, H, I)
}

/// A handler whose arguments are known to itself alone.
pub(crate) trait DynHandler {
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Response>;
}

struct Erased<H, Arguments> {
    handler: Rc<H>,
    arguments: PhantomData<fn(Arguments)>,
}

impl<Arguments: 'static, H: Handler<Arguments>> DynHandler for Erased<H, Arguments> {
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Response> {
        Rc::clone(&self.handler).call(request)
    }
}

/// Makes a handler on each core: what it has captured is copied once per core, so that cores share no counters.
#[derive(Clone)]
pub(crate) struct MakeHandler {
    make: Arc<dyn Fn() -> Rc<dyn DynHandler> + Send + Sync>,
    pub(crate) needs: Needs,
}

impl MakeHandler {
    pub(crate) fn new<Arguments: 'static, H: Handler<Arguments>>(handler: H) -> Self {
        let mut needs = Needs::default();
        H::needs(&mut needs);
        let make = move || -> Rc<dyn DynHandler> {
            Rc::new(Erased { handler: Rc::new(handler.clone()), arguments: PhantomData })
        };
        Self { make: Arc::new(make), needs }
    }

    pub(crate) fn make(&self) -> Rc<dyn DynHandler> {
        (self.make)()
    }
}
