"""Files in and out: sound, pictures and video. Knows no network."""
