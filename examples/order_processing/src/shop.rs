//! The systems around the workflow, made up: catalogue, payment gateway, inventory, orders, mail.
//!
//! Each keeps what it did by the key that came with the request, and answers a repeated request
//! with what it did the first time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::money::Cents;
use crate::order::{Confirmation, Order, Payment, Reservation, UpdatedProduct, ValidatedItem};

/// How many of each product there are in the beginning.
pub const STOCK: u32 = 10;

/// A product as the catalogue knows it.
#[derive(Debug, Clone)]
pub struct Product {
    /// Its name.
    pub name: String,
    /// Of one.
    pub price: Cents,
}

/// All of them. Clones are the same shop.
#[derive(Debug, Clone, Default)]
pub struct Shop {
    books: Arc<Mutex<Books>>,
}

/// What was done, by idempotency key.
#[derive(Debug, Default)]
pub struct Books {
    /// By the payment gateway.
    pub payments: BTreeMap<String, Payment>,
    /// By the inventory.
    pub reservations: BTreeMap<String, Reservation>,
    /// Orders written.
    pub orders: BTreeMap<String, Order>,
    /// Mails sent.
    pub mails: BTreeMap<String, Confirmation>,
    /// How much the payment gateway has taken, of all customers.
    pub taken: Cents,
    /// How many of a product are reserved.
    reserved: BTreeMap<u64, u32>,
}

impl Shop {
    /// The catalogue's entry for a product.
    pub fn product(product_id: u64) -> Product {
        let (name, price) = match product_id {
            1 => ("Widget A".to_owned(), 2999),
            2 => ("Widget B".to_owned(), 4999),
            other => (format!("Mock Product {other}"), 2999),
        };
        Product {
            name,
            price: Cents(price),
        }
    }

    /// What was done so far.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books
            .lock()
            .expect("invariant: nothing panics while it holds the books")
    }
}

impl Books {
    /// How many of a product are left.
    pub fn stock(&self, product_id: u64) -> u32 {
        STOCK - self.reserved.get(&product_id).copied().unwrap_or(0)
    }

    /// Takes the money, unless that was done.
    pub fn charge(&mut self, key: &str, payment: Payment) -> Payment {
        if let Some(known) = self.payments.get(key) {
            return known.clone();
        }
        self.taken = self.taken + payment.amount_charged;
        self.payments.insert(key.to_owned(), payment.clone());
        payment
    }

    /// Takes the goods of an order from the stock, all or none. `None`: there are not enough.
    pub fn reserve(
        &mut self,
        key: &str,
        order_id: &str,
        items: &[ValidatedItem],
    ) -> Option<Reservation> {
        if let Some(known) = self.reservations.get(key) {
            return Some(known.clone());
        }
        let mut reserved = self.reserved.clone();
        let mut updated_products = Vec::with_capacity(items.len());
        for item in items {
            let taken = reserved.entry(item.product_id).or_default();
            let previous_stock = STOCK - *taken;
            let new_stock = previous_stock.checked_sub(item.quantity)?;
            *taken += item.quantity;
            updated_products.push(UpdatedProduct {
                product_id: item.product_id,
                name: item.name.clone(),
                previous_stock,
                new_stock,
                quantity_reserved: item.quantity,
                reservation_id: format!("{order_id}/{}", item.product_id),
            });
        }
        let reservation = Reservation {
            total_items_reserved: items.iter().map(|item| item.quantity).sum(),
            inventory_changes: updated_products.iter().map(change).collect(),
            updated_products,
        };
        self.reserved = reserved;
        self.reservations
            .insert(key.to_owned(), reservation.clone());
        Some(reservation)
    }
}

fn change(product: &UpdatedProduct) -> String {
    let UpdatedProduct {
        name,
        previous_stock,
        new_stock,
        ..
    } = product;
    format!("{name}: {previous_stock} to {new_stock}")
}
