"""What is worn: clothes, hats, glasses, jewellery, and their colours."""
