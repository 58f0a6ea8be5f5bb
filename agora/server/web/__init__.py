"""The web pages: views of the JSON API's functions, one file for each area. Text of posts is only ever shown as text."""
