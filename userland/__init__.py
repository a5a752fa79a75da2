"""Guest programs in C, what builds them (`build`) and what runs them on the host (`native`)."""
