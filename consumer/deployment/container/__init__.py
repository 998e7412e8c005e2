"""What is shipped into containers of AWS: nothing of it may need another module of ours."""
