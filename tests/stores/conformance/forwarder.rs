//! A port of this machine that forwards to a server. If it is cut, every connection fails.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Forwarder {
    address: SocketAddr,
    server: String,
    is_cut: Arc<AtomicBool>,
    /// Ends when it is cut.
    accepting: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Forwarder {
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let forwarder = Self {
            address: listener.local_addr().unwrap(),
            server: server.to_owned(),
            is_cut: Arc::default(),
            accepting: Mutex::default(),
        };
        forwarder.accept(listener);
        forwarder
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it off, or opens it again at the same port.
    pub fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
        if is_cut {
            // The thread that accepts connections sees the mark with the next one.
            drop(TcpStream::connect(self.address));
            self.accepting.lock().unwrap().take().unwrap().join().unwrap();
        } else {
            self.accept(TcpListener::bind(self.address).unwrap());
        }
    }

    fn accept(&self, listener: TcpListener) {
        let (server, is_cut) = (self.server.clone(), self.is_cut.clone());
        let accepting = thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if is_cut.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(beyond) = TcpStream::connect(&server) else { continue };
                copy(&connection, &beyond);
                copy(&beyond, &connection);
            }
        });
        self.accepting.lock().unwrap().replace(accepting);
    }
}

fn copy(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
