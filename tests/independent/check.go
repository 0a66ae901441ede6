// Command check verifies a dispute file with code that is not Quittance's: the Go project's sumdb/note and
// sumdb/tlog, and Go's own Ed25519, SHA-256 and zip. Of the formats it knows only what docs/event-format.md and
// docs/disputes.md say.
//
//	check FILE.zip VKEY            exits 0 if every event is signed under VKEY and proven to be in the checkpoint's tree
//	check -change NAME IN OUT      copies a zip with the middle byte of one entry changed, checksums mended
package main

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// crockford is the alphabet of Taler's base32.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

func main() {
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 2:
		err = check(arguments[0], arguments[1])
	case len(arguments) == 4 && arguments[0] == "-change":
		err = change(arguments[1], arguments[2], arguments[3])
	default:
		err = errors.New("usage: check FILE.zip VKEY | check -change NAME IN OUT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func read(file string) ([]string, map[string][]byte, error) {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return nil, nil, err
	}
	defer archive.Close()
	var names []string
	entries := make(map[string][]byte)
	for _, entry := range archive.File {
		content, err := entry.Open()
		if err != nil {
			return nil, nil, err
		}
		whole, err := io.ReadAll(content)
		if err != nil {
			return nil, nil, err
		}
		names = append(names, entry.Name)
		entries[entry.Name] = whole
	}
	return names, entries, nil
}

func check(file, vkey string) error {
	names, entries, err := read(file)
	if err != nil {
		return err
	}
	eventKey, err := publicKey(vkey)
	if err != nil {
		return err
	}
	origin := vkey[:strings.IndexByte(vkey, '+')]
	verifier, err := checkpointKey(entries, eventKey, origin)
	if err != nil {
		return err
	}
	// Opening verifies the signature.
	opened, err := note.Open(entries["checkpoint"], note.VerifierList(verifier))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	size, root, err := tree(opened.Text, origin)
	if err != nil {
		return err
	}
	proven := 0
	for _, name := range names {
		number := strings.TrimSuffix(strings.TrimPrefix(name, "events/"), ".json")
		if "events/"+number+".json" != name {
			continue
		}
		sequence, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return err
		}
		if err := event(entries, sequence, eventKey, size, root); err != nil {
			return fmt.Errorf("event %d: %w", sequence, err)
		}
		proven++
	}
	if proven < 2 {
		return errors.New("there is no event of an order in it")
	}
	fmt.Printf("%d events are signed under %s and proven to be in its tree of %d\n", proven, vkey, size)
	return nil
}

// publicKey reads the key of a VKEY whose name and id note.NewVerifier has checked.
func publicKey(vkey string) (ed25519.PublicKey, error) {
	if _, err := note.NewVerifier(vkey); err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil {
		return nil, err
	}
	return key[1:], nil
}

func signed(sealed, signature []byte, key ed25519.PublicKey) error {
	message := append([]byte("quittance/event/v1\n"), sealed...)
	if !ed25519.Verify(key, message, signature) {
		return errors.New("the event key did not sign it")
	}
	return nil
}

// checkpointKey reads the key that signs checkpoints from the first event, which the event key signed.
func checkpointKey(entries map[string][]byte, eventKey ed25519.PublicKey, origin string) (note.Verifier, error) {
	sealed := entries["events/1.json"]
	if err := signed(sealed, entries["events/1.sig"], eventKey); err != nil {
		return nil, fmt.Errorf("event 1: %w", err)
	}
	var genesis struct {
		Kind   string
		Ledger string
		Facts  struct {
			CheckpointKey string `json:"checkpoint_key"`
		}
	}
	if err := json.Unmarshal(sealed, &genesis); err != nil {
		return nil, err
	}
	if genesis.Kind != "ledger_opened" || genesis.Ledger != origin {
		return nil, fmt.Errorf("event 1 is a %s of %s", genesis.Kind, genesis.Ledger)
	}
	key, err := base32(genesis.Facts.CheckpointKey)
	if err != nil {
		return nil, err
	}
	vkey, err := note.NewEd25519VerifierKey(origin, key)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(vkey)
}

// base32 reads 32 bytes from 52 symbols, the last of which is padded with four zero bits.
func base32(text string) (ed25519.PublicKey, error) {
	var out []byte
	bits, count := 0, 0
	for _, symbol := range text {
		value := strings.IndexRune(crockford, symbol)
		if value < 0 {
			return nil, fmt.Errorf("%q is no base32", text)
		}
		bits, count = bits<<5|value, count+5
		if count >= 8 {
			count -= 8
			out = append(out, byte(bits>>count))
			bits &= 1<<count - 1
		}
	}
	if len(out) != ed25519.PublicKeySize || bits != 0 {
		return nil, fmt.Errorf("%q is no key", text)
	}
	return out, nil
}

// tree reads the three lines of a checkpoint.
func tree(text, origin string) (int64, tlog.Hash, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] != origin || lines[3] != "" {
		return 0, tlog.Hash{}, errors.New("the checkpoint is not three lines of this ledger")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return size, root, err
}

func event(entries map[string][]byte, sequence int64, key ed25519.PublicKey, size int64, root tlog.Hash) error {
	name := strconv.FormatInt(sequence, 10)
	sealed, signature := entries["events/"+name+".json"], entries["events/"+name+".sig"]
	if err := signed(sealed, signature, key); err != nil {
		return err
	}
	var numbered struct{ Seq int64 }
	if err := json.Unmarshal(sealed, &numbered); err != nil {
		return err
	}
	if numbered.Seq != sequence {
		return fmt.Errorf("it says that it is event %d", numbered.Seq)
	}
	proof, err := inclusion(entries["proofs/"+name+".tlog-proof"], sequence-1, entries["checkpoint"])
	if err != nil {
		return err
	}
	leaf := append(append([]byte{}, sealed...), signature...)
	return tlog.CheckRecord(proof, size, root, sequence-1, tlog.RecordHash(leaf))
}

// inclusion reads a C2SP tlog-proof of this leaf, made for this checkpoint.
func inclusion(proof []byte, index int64, checkpoint []byte) (tlog.RecordProof, error) {
	above, below, found := bytes.Cut(proof, []byte("\n\n"))
	if !found || !bytes.Equal(below, checkpoint) {
		return nil, errors.New("the proof is not of this checkpoint")
	}
	lines := strings.Split(string(above), "\n")
	head := []string{"c2sp.org/tlog-proof@v1", "index " + strconv.FormatInt(index, 10)}
	if len(lines) < 2 || lines[0] != head[0] || lines[1] != head[1] {
		return nil, errors.New("the proof is not of this leaf")
	}
	var hashes tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

func change(name, in, out string) error {
	names, entries, err := read(in)
	if err != nil {
		return err
	}
	content, found := entries[name]
	if !found || len(content) == 0 {
		return fmt.Errorf("there is no %s in it", name)
	}
	content[len(content)/2] ^= 1
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	archive := zip.NewWriter(file)
	for _, name := range names {
		entry, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := entry.Write(entries[name]); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return file.Close()
}
