"""How closely the predictions of one model follow those of another."""
