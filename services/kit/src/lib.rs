//! The chassis each reference service stands on.
