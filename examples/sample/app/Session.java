package com.nordvik.app;

/**
 * Keeps a session with the billing service.
 *
 * @author Henrike Baumgartner
 */
public class Session {
    private static final String HOST = "185.43.108.77";
    private static final String API_TOKEN = "%%random_token%%";

    public Connection open() {
        Connection connection = new Connection(HOST, 8443);
        connection.login("hbaumgartner", "kupferdach77");
        connection.setHeader("Authorization", "Bearer " + API_TOKEN);
        return connection;
    }
}
