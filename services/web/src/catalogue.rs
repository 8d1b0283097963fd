//! What the shop sells.

/// A thing to buy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Good {
    /// Identifier in orders.
    pub(crate) sku: &'static str,
    /// Name.
    pub(crate) name: &'static str,
    /// One line about it.
    pub(crate) about: &'static str,
    /// Price in cents.
    pub(crate) price: i64,
    /// Drawing on a square of 96; its classes take the page's colours.
    pub(crate) art: &'static str,
}

/// Currency of every price.
pub(crate) const CURRENCY: &str = "EUR";

/// The catalogue.
pub(crate) const GOODS: [Good; 6] = [
    Good {
        sku: "mug",
        name: "Stoneware mug",
        about: "Holds 350 ml, and warmth.",
        price: 1_850,
        art: r#"<path class="l" d="M66 40h8a10 10 0 0 1 0 24h-8"/><path class="a" d="M22 32h46v34a12 12 0 0 1-12 12H34a12 12 0 0 1-12-12z"/><path class="c" d="M22 46h46v10H22z"/><path class="l" d="M36 22c-4-5 4-7 0-12M52 22c-4-5 4-7 0-12"/>"#,
    },
    Good {
        sku: "notebook",
        name: "Linen notebook",
        about: "192 pages that lie flat.",
        price: 1_400,
        art: r#"<rect class="a" x="24" y="14" width="50" height="68" rx="5"/><path class="b" d="M34 14h4v68h-4z"/><rect class="c" x="46" y="28" width="20" height="13" rx="2"/><path class="l" d="M62 78v12"/>"#,
    },
    Good {
        sku: "lamp",
        name: "Desk lamp",
        about: "Light where you need it.",
        price: 8_900,
        art: r#"<path class="l" d="M34 82V58l22-22"/><path class="a" d="M20 80h30a3 3 0 0 1 3 6H17a3 3 0 0 1 3-6z"/><path class="a" d="m48 20 24 24-9 9-24-24z"/><path class="c" d="M72 44a13 13 0 0 1-9 9l-2-2 9-9z"/><circle class="a" cx="34" cy="58" r="5"/><path class="l" d="m76 60 7 5M70 66l3 8"/>"#,
    },
    Good {
        sku: "tote",
        name: "Canvas tote",
        about: "Carries more than it looks.",
        price: 2_200,
        art: r#"<path class="l" d="M34 40V28a14 14 0 0 1 28 0v12"/><path class="a" d="M20 36h56l-4 48H24z"/><path class="c" d="M40 52h16v16H40z"/><path class="k" d="M27 46h4M65 46h4"/>"#,
    },
    Good {
        sku: "fern",
        name: "Potted fern",
        about: "Asks for little, gives a lot.",
        price: 2_650,
        art: r#"<path class="l" d="M48 56V22M48 44C34 44 28 36 26 24c14 0 20 8 22 20zM48 50c14 0 20-8 22-20-14 0-20 8-22 20z"/><path class="c" d="M30 56h36l-4 28H34z"/><path class="a" d="M27 54h42v8H27z"/>"#,
    },
    Good {
        sku: "blanket",
        name: "Wool blanket",
        about: "130 × 180 cm of evenings.",
        price: 11_500,
        art: r#"<path class="a" d="M18 26h50a10 10 0 0 1 10 10v42H28a10 10 0 0 1-10-10z"/><path class="c" d="M18 40h60v8H18zM18 56h60v8H18z"/><path class="l" d="M30 78v8M42 78v8M54 78v8M66 78v8"/>"#,
    },
];
