//! Users, their profiles and preferences, and the welcome that they get.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A request, as far as it matters here.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Such as `POST`.
    pub method: String,
    /// Such as `/users`.
    pub path: String,
    /// By lower-case names.
    pub headers: BTreeMap<String, String>,
    /// What came with it.
    pub body: Value,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Such as 201.
    pub status: u16,
    /// In seconds, if the caller is to wait.
    pub retry_after: Option<u32>,
    /// What goes with it.
    pub body: Value,
}

impl Answer {
    fn new(status: u16, body: Value) -> Answer {
        Answer {
            status,
            retry_after: None,
            body,
        }
    }

    fn refused(status: u16, error: &str) -> Answer {
        Answer::new(status, json!({"error": error}))
    }
}

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    /// Such as `user_1`; given by the service.
    #[serde(default)]
    pub id: String,
    /// One user has it.
    pub email: String,
    /// What the user is called.
    pub name: String,
    /// Such as `free`.
    pub plan: String,
    /// Since when there is the account.
    #[serde(default)]
    pub created_at: Timestamp,
    /// `active` when the registration is complete.
    #[serde(default)]
    pub status: String,
}

/// What goes wrong, and how often.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The path of the requests that it concerns.
    pub path: String,
    /// What is answered.
    pub status: u16,
    /// In so many requests.
    pub times: u32,
    /// In seconds.
    pub retry_after: Option<u32>,
    /// Whether the request is carried out nevertheless, so that only its answer is lost.
    pub is_done: bool,
}

impl Fault {
    /// The request is not carried out.
    pub fn new(path: &str, status: u16, times: u32) -> Fault {
        Fault {
            path: path.to_owned(),
            status,
            times,
            retry_after: None,
            is_done: false,
        }
    }
}

/// All that the services know.
#[derive(Debug, Default)]
pub struct Accounts {
    users: Vec<User>,
    /// By the user's id.
    profiles: BTreeSet<String>,
    /// By the user's id.
    preferences: BTreeSet<String>,
    /// The welcomes sent, with what they said.
    welcomes: Vec<Value>,
    /// What was answered to a request with an idempotency key.
    answers: BTreeMap<String, Answer>,
    faults: Vec<Fault>,
}

impl Accounts {
    /// Adds a user who has registered before, with everything.
    pub fn add_registered(&mut self, email: &str, name: &str, plan: &str) {
        let user = User {
            id: String::new(),
            email: email.to_owned(),
            name: name.to_owned(),
            plan: plan.to_owned(),
            created_at: Timestamp::now(),
            status: "active".to_owned(),
        };
        let id = self.add(user).id.clone();
        self.profiles.insert(id.clone());
        self.preferences.insert(id);
    }

    /// Adds something that goes wrong.
    pub fn add_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// All users.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// The welcomes sent, with what they said.
    pub fn welcomes(&self) -> &[Value] {
        &self.welcomes
    }

    /// Answers a request. One with a known idempotency key gets the answer of the first.
    pub fn answer(&mut self, request: &Request) -> Answer {
        let wrong = self
            .faults
            .iter_mut()
            .find(|fault| fault.times > 0 && fault.path == request.path);
        let Some(fault) = wrong else {
            return self.once(request);
        };
        fault.times -= 1;
        let fault = fault.clone();
        if fault.is_done {
            self.once(request);
        }
        Answer {
            retry_after: fault.retry_after,
            ..Answer::refused(fault.status, "SIMULATED")
        }
    }

    fn once(&mut self, request: &Request) -> Answer {
        let Some(key) = request.headers.get("idempotency-key") else {
            return self.carry_out(request);
        };
        if let Some(known) = self.answers.get(key) {
            return known.clone();
        }
        let answer = self.carry_out(request);
        self.answers.insert(key.clone(), answer.clone());
        answer
    }

    fn carry_out(&mut self, request: &Request) -> Answer {
        let Request {
            method, path, body, ..
        } = request;
        match (method.as_str(), path.as_str()) {
            ("POST", "/users") => self.create_user(body),
            ("POST", "/users/match") => self.match_user(body),
            ("POST", "/profiles") => add_part(&mut self.profiles, "profile", body),
            ("POST", "/preferences") => add_part(&mut self.preferences, "preferences", body),
            ("POST", "/welcome") => self.welcome(body),
            ("PATCH", path) => self.set_status(path, body),
            _ => Answer::refused(404, "NO_SUCH_PATH"),
        }
    }

    fn add(&mut self, user: User) -> &User {
        let id = format!("user_{}", self.users.len() + 1);
        self.users.push(User { id, ..user });
        &self.users[self.users.len() - 1]
    }

    fn create_user(&mut self, body: &Value) -> Answer {
        let Ok(user) = User::deserialize(body) else {
            return Answer::refused(422, "INVALID_USER");
        };
        if self.users.iter().any(|known| known.email == user.email) {
            return Answer::refused(409, "EMAIL_TAKEN");
        }
        let created_at = Timestamp::now();
        let user = self.add(User { created_at, ..user });
        Answer::new(201, json!(user))
    }

    fn match_user(&self, body: &Value) -> Answer {
        let Some(user) = self.users.iter().find(|user| user.email == body["email"]) else {
            return Answer::refused(404, "USER_NOT_FOUND");
        };
        if user.name == body["name"] && user.plan == body["plan"] {
            Answer::new(200, json!(user))
        } else {
            Answer::refused(409, "USER_CONFLICT")
        }
    }

    fn welcome(&mut self, body: &Value) -> Answer {
        self.welcomes.push(body.clone());
        let number = self.welcomes.len();
        let steps = body["onboarding_steps"].as_array().map_or(0, Vec::len);
        let mails: Vec<String> = (0..=steps).map(|n| format!("mail_{number}_{n}")).collect();
        Answer::new(
            201,
            json!({"id": format!("sequence_{number}"), "email_ids": mails}),
        )
    }

    fn set_status(&mut self, path: &str, body: &Value) -> Answer {
        let id = path
            .strip_prefix("/users/")
            .and_then(|rest| rest.strip_suffix("/status"));
        let user = self.users.iter_mut().find(|user| Some(&*user.id) == id);
        let (Some(user), Some(status)) = (user, body["status"].as_str()) else {
            return Answer::refused(404, "USER_NOT_FOUND");
        };
        status.clone_into(&mut user.status);
        Answer::new(200, json!(user))
    }
}

fn add_part(known: &mut BTreeSet<String>, part: &str, body: &Value) -> Answer {
    let Some(user_id) = body["user_id"].as_str() else {
        return Answer::refused(422, "MISSING_USER_ID");
    };
    if !known.insert(user_id.to_owned()) {
        return Answer::new(409, json!({"error": "EXISTS", "user_id": user_id}));
    }
    let id = format!("{part}_{user_id}");
    Answer::new(201, json!({"id": id, "user_id": user_id}))
}
