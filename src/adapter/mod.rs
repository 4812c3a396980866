//! L4: other APIs and networks in front of the same services. An adapter knows L0 to L2 and its own protocol; how its routes
//! are reached, and what surrounds them, is L3's business.

pub mod camara;
