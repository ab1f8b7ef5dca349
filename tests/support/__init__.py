"""What tests share: real servers, stores, samples. No tests."""
