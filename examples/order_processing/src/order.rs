//! What the task is given, and what its steps give each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::money::Cents;

/// The input of a task. What the schema does not require is optional here, so that each step can
/// say with its own code what it lacks.
#[derive(Debug, Clone, Deserialize)]
pub struct Context {
    /// What is bought.
    pub cart_items: Vec<CartItem>,
    /// How it is paid.
    pub payment_info: PaymentInfo,
    /// Who buys it.
    pub customer_info: CustomerInfo,
    /// How fast it must go.
    #[serde(default)]
    pub priority: Priority,
    /// What is to fail.
    #[serde(default)]
    pub simulate: Simulate,
}

/// A line of the cart.
#[derive(Debug, Clone, Deserialize)]
pub struct CartItem {
    /// Which product.
    pub product_id: Option<u64>,
    /// How many.
    pub quantity: Option<u32>,
}

/// How it is paid.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentInfo {
    /// Such as `credit_card`.
    pub method: Option<String>,
    /// What the customer agreed to, as written.
    pub amount: Option<Number>,
    /// Such as `USD`.
    pub currency: String,
    /// Stands for the card at the payment gateway.
    pub token: Option<String>,
}

/// Who buys it.
#[derive(Debug, Clone, Deserialize)]
pub struct CustomerInfo {
    /// The customer's number.
    pub id: Option<u64>,
    /// Where the confirmation goes.
    pub email: Option<String>,
    /// `premium`, or anything else.
    pub tier: String,
}

/// How fast it must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// As ever.
    #[default]
    Standard,
    /// Rather fails soon than succeeds late.
    Express,
    /// By tomorrow.
    Overnight,
}

/// What is to fail.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Simulate {
    /// In `validate_cart`.
    pub catalogue: Option<String>,
    /// In `process_payment`.
    pub payment: Option<String>,
    /// In `update_inventory`.
    pub inventory: Option<String>,
    /// In `create_order`.
    pub order: Option<String>,
    /// In `send_confirmation`.
    pub email: Option<String>,
    /// In so many attempts; in all of them if absent.
    pub times: Option<u32>,
}

impl Simulate {
    /// The failure that one part has in this attempt.
    pub fn failure<'a>(&self, part: &'a Option<String>, attempt: u32) -> Option<&'a str> {
        let fails = self.times.is_none_or(|times| attempt <= times);
        part.as_deref().filter(|_| fails)
    }
}

/// What `validate_cart` found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValidatedCart {
    /// The lines, with the catalogue's prices.
    pub validated_items: Vec<ValidatedItem>,
    /// Of all lines.
    pub subtotal: Cents,
    /// On the subtotal.
    pub tax: Cents,
    /// By weight.
    pub shipping: Cents,
    /// What is to be paid.
    pub total: Cents,
    /// How many things.
    pub item_count: u32,
    /// When.
    pub validated_at: Timestamp,
    /// With priority `express`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub express_processing: Option<ExpressProcessing>,
    /// For customers of the tier `premium`.
    pub premium_processing: bool,
}

/// A line of the cart that can be sold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValidatedItem {
    /// Which product.
    pub product_id: u64,
    /// Its name.
    pub name: String,
    /// Of one.
    pub price: Cents,
    /// How many.
    pub quantity: u32,
    /// Of all of them.
    pub line_total: Cents,
}

/// What is different when it must go fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpressProcessing {
    /// How long the gateway may take.
    pub payment_timeout_ms: u64,
    /// Attempts to pay after the first.
    pub payment_retries: u32,
    /// Attempts to send after the first.
    pub email_retries: u32,
}

/// What `process_payment` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// The gateway's name for it.
    pub payment_id: String,
    /// How much was taken.
    pub amount_charged: Cents,
    /// Such as `USD`.
    pub currency: String,
    /// Such as `credit_card`.
    pub payment_method_type: String,
    /// The bank's name for it.
    pub transaction_id: String,
    /// When.
    pub processed_at: Timestamp,
    /// `completed`.
    pub status: String,
}

/// What `update_inventory` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// Line by line.
    pub updated_products: Vec<UpdatedProduct>,
    /// How many things.
    pub total_items_reserved: u32,
    /// In words, for the record.
    pub inventory_changes: Vec<String>,
}

/// The stock of one product, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdatedProduct {
    /// Which product.
    pub product_id: u64,
    /// Its name.
    pub name: String,
    /// Before.
    pub previous_stock: u32,
    /// After.
    pub new_stock: u32,
    /// The difference.
    pub quantity_reserved: u32,
    /// The inventory's name for it.
    pub reservation_id: String,
}

/// What `create_order` wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// From the task.
    pub order_id: String,
    /// For people.
    pub order_number: String,
    /// `confirmed`.
    pub status: String,
    /// What was paid.
    pub total_amount: Cents,
    /// Where the confirmation goes.
    pub customer_email: String,
    /// When.
    pub created_at: Timestamp,
    /// A week later.
    pub estimated_delivery: Timestamp,
}

/// What `send_confirmation` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Always.
    pub email_sent: bool,
    /// To whom.
    pub recipient: String,
    /// `order_confirmation`.
    pub email_type: String,
    /// When.
    pub sent_at: Timestamp,
    /// The mail system's name for it.
    pub message_id: String,
}
