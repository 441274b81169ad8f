package main

import (
	"encoding/json"
	"os"
)

// save writes NAME.json and NAME.svg; nothing for "".
func (r *Run) save(name string) error {
	if name == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(name+".svg", []byte(plot(r)), 0o644)
}
